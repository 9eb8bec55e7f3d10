"""`vlmsift check`: open a model, say what was found in it, and prove it on a small conversation.

In: a model. Out: a `Report` of facts and proofs. Every proof compares our fast way with the model's own slow way.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlmsift import proofs
from vlmsift.models import Adapter, Encoded, Encoder
from vlmsift.passes.capture import Capture
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head
from vlmsift.passes.masking import Masking
from vlmsift.passes.measure import measure
from vlmsift.proofs import Comparison, Proof
from vlmsift.types import IMAGE_MARK, Sample, Turn


@dataclass
class Report:
    """What `check` found. `supported` only if every proof passed."""

    model: str
    facts: dict[str, str] = field(default_factory=dict)
    proofs: list[Proof] = field(default_factory=list)

    @property
    def supported(self) -> bool:
        return bool(self.proofs) and all(proof.passed for proof in self.proofs)

    @property
    def reasons(self) -> str:
        """Why it is not supported, in a line."""
        return proofs.refusal(self.proofs)


def check_adapter(adapter: Adapter) -> Report:
    """Prove an opened model. Nothing of the model is changed, whatever happens."""
    report = Report(adapter.name)
    before = weights_digest(adapter)
    implementation = adapter.text.config._attn_implementation
    encoder = adapter.encoder(_probe_image)
    encoded: list[Encoded] = []

    def prove(name: str, compare: Comparison) -> None:
        report.proofs.append(proofs.attempt(adapter, name, compare))

    prove("conversation", lambda: _conversation(encoder, _probe_samples(adapter.quirk.prefix_suffix), encoded))
    if not encoded:  # the others have nothing to run on
        return report
    batch = encoder.collate(encoded[:1])
    prove("loss", lambda: proofs.compare_loss(adapter, batch))
    prove("attention", lambda: proofs.compare_attention(adapter, batch))
    prove("masked re-run", lambda: proofs.compare_rerun(adapter, batch))
    prove("batch independence", lambda: _independence(adapter, encoder, encoded))
    same = weights_digest(adapter) == before and adapter.text.config._attn_implementation == implementation
    untouched = "weights and attention as before" if same else "the model was changed"
    report.proofs.append(Proof("model untouched", same, untouched))
    report.facts = _facts(adapter, encoded)
    return report


def weights_digest(adapter: Adapter) -> str:
    """A hash over every parameter and buffer, bit by bit."""
    digest = hashlib.sha256()
    for name, tensor in adapter.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())  # also of 0 dimensions
    return digest.hexdigest()


def _probe_image(ref: Any) -> Image.Image:
    height, width = (48, 48) if ref == "square" else (40, 88)  # pixels
    return Image.fromarray(np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _probe_samples(single_turn: bool) -> list[Sample]:
    first = [Turn("user", f"{IMAGE_MARK}\nWhat is in the picture?"), Turn("assistant", "A grey cat on a mat.")]
    second = [Turn("user", f"And now?\n{IMAGE_MARK}"), Turn("assistant", "Two dogs.")]
    short = [Turn("user", f"{IMAGE_MARK}\nIs it day?"), Turn("assistant", "yes")]
    long = (first, ("square",)) if single_turn else (first + second, ("square", "wide"))
    return [
        Sample(f"probe-{number}", number, tuple(turns), images, None, {})
        for number, (turns, images) in enumerate([long, (short, ("wide",))])
    ]


def _conversation(encoder: Encoder, samples: list[Sample], encoded: list[Encoded]) -> tuple[None, str]:
    details = []
    for sample in samples:
        item = encoder.encode(sample)
        answers = [turn.text for turn in sample.turns if turn.role == "assistant"]
        details.append(proofs.compare_text(encoder, item, answers)[1])
        encoded.append(item)
    return None, details[0]


def _independence(adapter: Adapter, encoder: Encoder, encoded: list[Encoded]) -> tuple[float, str]:
    needs: list[Any] = [Head(), Head("entropy"), MaskedLoss(Masking(sinks="keep"))]
    worst = 0.0
    with Capture(adapter) as capture:
        alone = [measure(capture, encoder.collate([item]), needs) for item in encoded]
        for side in ("right", "left"):
            together = measure(capture, encoder.collate(encoded, side), needs)
            for need in needs:
                apart = torch.cat([one[need] for one in alone])  # (B,)
                worst = max(worst, float((together[need] - apart).abs().max()))
    return worst, "alone, and padded left and right beside another sample"


def _facts(adapter: Adapter, encoded: list[Encoded]) -> dict[str, str]:
    config: Any = adapter.model.config
    text = adapter.text_config
    index = encoded[0].image_index  # (T,)
    counts = [str(int((index == number).sum())) for number in range(int(index.max()) + 1)]
    token = adapter.processor.tokenizer.convert_ids_to_tokens(adapter.image_token_id)
    query = text.num_attention_heads
    heads = f"{query} query, {getattr(text, 'num_key_value_heads', query)} key-value"
    return {
        "family": f"{config.model_type} ({type(adapter.model).__name__})",
        "text layers": f"{adapter.depth} of {type(adapter.text).__name__}, width {text.hidden_size}, heads {heads}",
        "parameters": f"{sum(parameter.numel() for parameter in adapter.model.parameters()):,}",
        "precision": str(next(adapter.model.parameters()).dtype).removeprefix("torch."),
        "image token": f"{token} (id {adapter.image_token_id}); {' and '.join(counts)} tokens for the probe images",
        "supervised text": adapter.processor.tokenizer.decode(encoded[0].labels[encoded[0].labels != -100]),
        "context": f"{adapter.context} tokens" if adapter.context < 1 << 30 else "not stated",
    }
