"""`vlmsift check`: open a model, say what was found in it, and prove it on a small conversation.

In: a model. Out: a `Report` of facts and proofs. Every proof compares our fast way with the model's own slow way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlmsift.errors import SampleError, VlmsiftError
from vlmsift.models import Adapter, Encoded, Encoder
from vlmsift.passes.attention import Rows, Seen
from vlmsift.passes.capture import Capture, set_text_attention
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head, head_means
from vlmsift.passes.masking import Masking, choose_tokens, replace_states
from vlmsift.passes.measure import measure, on_device
from vlmsift.types import IMAGE_MARK, Batch, Sample, Turn

TOLERANCE = 1e-5
"""Largest difference allowed in float32; shares of attention and nats."""
LOW_PRECISION = {torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""In low precision the two ways round differently; prove a model in float32 where it fits."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One comparison: the largest difference found and the one allowed; None where nothing is measured."""

    name: str
    passed: bool
    detail: str
    difference: float | None = None


@dataclass
class Report:
    """What `check` found. `supported` only if every proof passed."""

    model: str
    facts: dict[str, str] = field(default_factory=dict)
    proofs: list[Proof] = field(default_factory=list)

    @property
    def supported(self) -> bool:
        return bool(self.proofs) and all(proof.passed for proof in self.proofs)


def check_adapter(adapter: Adapter) -> Report:
    """Prove an opened model. Nothing of the model is changed, whatever happens."""
    report = Report(adapter.name)
    before = weights_digest(adapter)
    implementation = adapter.text.config._attn_implementation
    tolerance = LOW_PRECISION.get(next(adapter.model.parameters()).dtype, TOLERANCE)
    encoder = adapter.encoder(_probe_image)
    samples = _probe_samples(adapter.quirk.prefix_suffix)
    encoded: list[Encoded] = []

    def prove(name: str, work: Callable[[], tuple[float | None, str]]) -> None:
        try:
            difference, detail = work()
        except VlmsiftError as error:
            report.proofs.append(Proof(name, False, str(error)))
        except Exception as error:  # a foreign model may fail in any way; that is an answer, not a crash
            report.proofs.append(Proof(name, False, f"{type(error).__name__}: {error}"))
        else:
            passed = difference is None or difference <= tolerance
            report.proofs.append(Proof(name, passed, detail, difference))

    prove("conversation", lambda: _conversation(encoder, samples, encoded, report))
    if not encoded:
        return report
    batch = encoder.collate(encoded[:1])
    prove("loss", lambda: _loss(adapter, batch))
    prove("attention", lambda: _attention(adapter, batch, report))
    prove("masked re-run", lambda: _rerun(adapter, batch))
    prove("batch independence", lambda: _independence(adapter, encoder, encoded))
    same = weights_digest(adapter) == before and adapter.text.config._attn_implementation == implementation
    report.proofs.append(
        Proof("model untouched", same, "weights and attention as before" if same else "the model was changed")
    )
    report.facts = _facts(adapter, encoded) | report.facts
    return report


def weights_digest(adapter: Adapter) -> str:
    """A hash over every parameter and buffer, bit by bit."""
    digest = hashlib.sha256()
    for name, tensor in adapter.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hooked_loss(adapter: Adapter, batch: Batch, layer: int, masking: Masking, chosen: Tensor) -> Tensor:
    """(B,) nats. The slow twin of a masked re-run: the whole model again, images too, with a hook before `layer`."""
    batch, chosen = on_device(batch, adapter.device), chosen.to(adapter.device)

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (replace_states(masking, batch, args[0], chosen), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": replace_states(masking, batch, kwargs["hidden_states"], chosen)}

    handle = adapter.layers[layer].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            return head_means(adapter, batch, adapter.backbone(batch, adapter.inputs(batch)), ["loss"])[0]
    finally:
        handle.remove()


def eager_attentions(adapter: Adapter, batch: Batch) -> tuple[Tensor, ...]:
    """The model's own eager attention: per text layer (B, H, T, T)."""
    model: Any = adapter.model
    before = adapter.text.config._attn_implementation
    set_text_attention(adapter, "eager")
    try:
        with torch.no_grad():
            inputs = adapter.inputs(batch)
            output = model.base_model(**inputs, use_cache=False, return_dict=True, output_attentions=True)
    finally:
        set_text_attention(adapter, before)
    return tuple(output.attentions)


def _probe_image(ref: Any) -> Image.Image:
    height, width = (48, 48) if ref == "square" else (40, 88)
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


def _conversation(
    encoder: Encoder, samples: list[Sample], encoded: list[Encoded], report: Report
) -> tuple[float | None, str]:
    for sample in samples:
        item = encoder.encode(sample)
        decoded = encoder.processor.tokenizer.decode(item.labels[item.labels != -100])
        for turn in sample.turns:
            if turn.role == "assistant" and turn.text not in decoded:
                raise SampleError(f"the supervised tokens read {decoded!r}; the answer {turn.text!r} is not among them")
        for number in range(len(sample.images)):
            if not (item.image_index == number).any():
                raise SampleError(f"image {number + 1} of {len(sample.images)} has no token in the text")
        encoded.append(item)
    decoded = encoder.processor.tokenizer.decode(encoded[0].labels[encoded[0].labels != -100])
    report.facts["supervised text"] = decoded
    return None, f"supervised: {decoded!r}"


def _loss(adapter: Adapter, batch: Batch) -> tuple[float, str]:
    with torch.no_grad():
        inputs = adapter.inputs(batch)
        theirs = float(adapter.model(**inputs, labels=batch.labels.to(adapter.device), use_cache=False).loss)
    with Capture(adapter) as capture:
        ours = float(measure(capture, batch, [])[Head()][0])
    return abs(ours - theirs) / max(1.0, abs(theirs)), f"ours {ours:.6f}, the model's own {theirs:.6f} nats"


class _Total:
    """Attention received per layer: (L, T), summed over rows, mean over heads; and how many rows see each token."""

    def __init__(self, batch: Batch, depth: int) -> None:
        self.layers = frozenset(range(depth))
        self.sums = torch.zeros((depth, batch.valid.shape[1]))
        self.counts = torch.zeros_like(self.sums)

    def see(self, layer: int, seen: Seen) -> None:
        reach = seen.probabilities.shape[-1]
        self.sums[layer, :reach] += seen.probabilities[0].mean(0).sum(0).cpu()
        self.counts[layer, :reach] += seen.visible[0].sum(0).cpu()

    def result(self) -> Tensor:
        return self.sums


def _attention(adapter: Adapter, batch: Batch, report: Report) -> tuple[float, str]:
    theirs = eager_attentions(adapter, batch)
    total = _Total(batch, adapter.depth)
    with Capture(adapter) as capture, torch.no_grad():
        capture.observers = [(Rows.where(batch.valid.to(adapter.device)), [total])]
        adapter.backbone(batch, adapter.inputs(batch))
        seen = sorted(capture.layers_seen)
    report.facts["layers whose attention is seen"] = f"{len(seen)} of {adapter.depth}"
    if len(seen) < adapter.depth:
        missing = sorted(set(range(adapter.depth)) - set(seen))
        raise SampleError(
            f"layers {missing} do not go through transformers' AttentionInterface; they cannot be measured"
        )
    reference = torch.stack([layer[0].float().mean(0).sum(0).cpu() for layer in theirs])
    # a token's column sums over as many rows as see it; the last ones are seen by few
    difference = float(((total.sums - reference).abs() / total.counts.clamp(min=1)).max())
    return difference, f"{len(seen)} layers against eager attention, per token and row that sees it"


def _rerun(adapter: Adapter, batch: Batch) -> tuple[float, str]:
    worst, resumed = 0.0, []
    for layer in sorted({0, adapter.depth // 2, adapter.depth - 1}):
        masking = Masking(depth=layer, sinks="keep")
        need, ranking = MaskedLoss(masking), masking.ranking(adapter.depth)
        with Capture(adapter) as capture:
            found = measure(capture, batch, [need, ranking])
        chosen = choose_tokens(masking, batch, found[ranking])
        slow = hooked_loss(adapter, batch, layer, masking, chosen).cpu()
        worst = max(worst, float((found[need] - slow).abs().max()))
        resumed.append(str(layer))
    return worst, f"resumed at layers {', '.join(resumed)} against the whole model with a hook"


def _independence(adapter: Adapter, encoder: Encoder, encoded: list[Encoded]) -> tuple[float, str]:
    needs: list[Any] = [Head(), MaskedLoss(Masking(sinks="keep"))]
    worst = 0.0
    with Capture(adapter) as capture:
        alone = [measure(capture, encoder.collate([item]), needs) for item in encoded]
        for side in ("right", "left"):
            together = measure(capture, encoder.collate(encoded, side), needs)
            for need in needs:
                apart = torch.cat([one[need] for one in alone])
                worst = max(worst, float((together[need] - apart).abs().max()))
    return worst, "alone, and padded left and right beside another sample"


def _facts(adapter: Adapter, encoded: list[Encoded]) -> dict[str, str]:
    config: Any = adapter.model.config
    text = adapter.text_config
    index = encoded[0].image_index
    counts = [str(int((index == number).sum())) for number in range(int(index.max()) + 1)]
    token = adapter.processor.tokenizer.convert_ids_to_tokens(adapter.image_token_id)
    heads = (
        f"{text.num_attention_heads} query, {getattr(text, 'num_key_value_heads', text.num_attention_heads)} key-value"
    )
    return {
        "family": f"{config.model_type} ({type(adapter.model).__name__})",
        "text layers": f"{adapter.depth} of {type(adapter.text).__name__}, width {text.hidden_size}, heads {heads}",
        "parameters": f"{sum(parameter.numel() for parameter in adapter.model.parameters()):,}",
        "precision": str(next(adapter.model.parameters()).dtype).removeprefix("torch."),
        "image token": f"{token} (id {adapter.image_token_id}); {' and '.join(counts)} tokens for the probe images",
        "context": f"{adapter.context} tokens" if adapter.context < 1 << 30 else "not stated",
    }
