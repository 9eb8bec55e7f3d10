"""What a model must prove: our fast ways give what its own slow ways give.

In: an open model and one encoded sample. Out: a `Proof` per comparison. `vlmsift check` runs them on a small
conversation of its own; scoring and training run them on a real sample, before a number is kept or a step is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vlmsift.errors import UnsupportedModel, VlmsiftError, is_out_of_memory
from vlmsift.models import Adapter, Encoded, Encoder
from vlmsift.models.prepare import POSITIONS
from vlmsift.passes.attention import Rows, Seen
from vlmsift.passes.capture import Capture, set_text_attention
from vlmsift.passes.intervene import SCORING, states_of, with_states
from vlmsift.passes.interventions import MaskedLoss
from vlmsift.passes.loss import Head, head_means
from vlmsift.passes.masking import Masking, choose_tokens, replace_states
from vlmsift.passes.measure import measure, on_device
from vlmsift.passes.needs import Observe, Rerun
from vlmsift.types import Batch

TOLERANCE = 1e-5
"""Largest difference allowed in float32; shares of attention and nats."""
LOW_PRECISION = {torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""In low precision the two ways round differently; prove a model in float32 where it fits."""


@dataclass(frozen=True, slots=True)
class Proof:
    """One comparison."""

    name: str
    passed: bool | None  # None where the comparison did not fit in memory: then nothing is known
    detail: str
    difference: float | None = None  # the largest one found, None where nothing is measured


Comparison = Callable[[], tuple[float | None, str]]
"""Compares once: the largest difference, and what was compared. Raises where the model cannot be right."""


def attempt(adapter: Adapter, name: str, compare: Comparison) -> Proof:
    """The proof that a comparison gives, whatever it raises."""
    try:
        difference, detail = compare()
    except VlmsiftError as error:
        return Proof(name, False, str(error))
    except Exception as error:  # a foreign model may fail in any way; that is an answer, not a crash
        return Proof(name, None if is_out_of_memory(error) else False, f"{type(error).__name__}: {error}")
    return Proof(name, difference is None or difference <= tolerance(adapter), detail, difference)


def tolerance(adapter: Adapter) -> float:
    """The difference that the model's precision allows."""
    return LOW_PRECISION.get(next(adapter.model.parameters()).dtype, TOLERANCE)


def refusal(proofs: Iterable[Proof]) -> str:
    """Why the model is not supported, in a line; empty where no proof failed."""
    return "; ".join(f"{proof.name}: {proof.detail}" for proof in proofs if not proof.passed)


def prove_sample(
    adapter: Adapter, encoder: Encoder, encoded: Encoded, answers: Sequence[str], needs: Iterable[Any] | None = None
) -> dict[str, Any]:
    """Prove the model on one sample of a pool. The model and its random states stay as they are.

    Args:
        answers: the texts of the sample's assistant turns.
        needs: what will be measured. Attention and re-runs are proved where these use them, the loss where there are
            any; None = the loss alone, as for training.

    Returns what was compared, as plain data for the record. Raises UnsupportedModel where a proof failed.
    """
    asked = [Head()] if needs is None else list(needs)
    batch = encoder.collate([encoded])
    rerun = any(isinstance(need, Rerun) for need in asked)
    comparisons: dict[str, Comparison] = {"conversation": partial(compare_text, encoder, encoded, answers)}
    if asked:
        comparisons["loss"] = partial(compare_loss, adapter, batch)
    if rerun or any(isinstance(need, Observe) for need in asked):
        comparisons["attention"] = partial(compare_attention, adapter, batch)
    if rerun:
        comparisons["masked re-run"] = partial(compare_rerun, adapter, batch)
    proofs = [attempt(adapter, name, compare) for name, compare in comparisons.items()]
    if failed := [proof for proof in proofs if proof.passed is False]:
        raise UnsupportedModel(
            f"{adapter.name} is not supported: {refusal(failed)} (on the sample {encoded.id!r}). `vlmsift check` says "
            "more"
        )
    facts = {"sample": encoded.id, "tokens": len(encoded), "tolerance": tolerance(adapter)}
    precision = str(next(adapter.model.parameters()).dtype).removeprefix("torch.")
    return {**facts, "precision": precision, "proofs": [asdict(proof) for proof in proofs]}


def compare_text(encoder: Encoder, encoded: Encoded, answers: Sequence[str]) -> tuple[None, str]:
    """The supervised tokens read as the answers, and each image has its tokens."""
    tokenizer = encoder.processor.tokenizer
    supervised = tokenizer.decode(encoded.labels[encoded.labels != -100])
    rest = "".join(supervised.split())
    for answer in answers:
        # what the tokenizer makes of the answer: it may change letters, and a template may strip white space
        read = "".join(tokenizer.decode(tokenizer(answer, add_special_tokens=False)["input_ids"]).split())
        if (start := rest.find(read)) < 0:
            raise UnsupportedModel(f"the supervised tokens read {supervised!r}; the answer {answer!r} is not in them")
        rest = rest[start + len(read) :]
    count = int(encoded.image_index.max()) + 1
    for number in range(count):
        if not (encoded.image_index == number).any():
            raise UnsupportedModel(f"image {number + 1} of {count} has no token in the text")
    return None, f"supervised: {supervised!r}"


def compare_loss(adapter: Adapter, batch: Batch) -> tuple[float, str]:
    """Our loss and entropy of one sample against the model's own. Source of the latter: its `forward` with labels."""
    labels = batch.labels.to(adapter.device)  # (1, T)
    with _own_attention(adapter):
        theirs_alone = {
            name: value for name, value in adapter.inputs(batch).items() if name != POSITIONS
        }  # it finds them
        given = adapter.model(**theirs_alone, labels=labels, use_cache=False)
    logs = given.logits[0, :-1][labels[0, 1:] != -100].float().log_softmax(-1)  # (T, V) to (n, V), n supervised
    theirs = {Head(): float(given.loss), Head("entropy"): -float((logs.exp() * logs).nan_to_num().sum(-1).mean())}
    with Capture(adapter) as capture:
        found = measure(capture, batch, theirs)
    ours = {need: float(found[need][0]) for need in theirs}
    apart = max(abs(ours[need] - own) / max(1.0, abs(own)) for need, own in theirs.items())
    return apart, f"ours {ours[Head()]:.6f}, the model's own {theirs[Head()]:.6f} nats"


class _Total:
    """Attention received per layer, of one sample: summed over rows, mean over heads; how many rows see each token."""

    def __init__(self, batch: Batch, depth: int) -> None:
        self.layers = frozenset(range(depth))
        self.sums = torch.zeros((depth, batch.valid.shape[1]))  # (L, T)
        self.counts = torch.zeros_like(self.sums)  # (L, T)

    def see(self, layer: int, seen: Seen) -> None:
        reach = seen.probabilities.shape[-1]
        self.sums[layer, :reach] += seen.probabilities[0].mean(0).sum(0).cpu()
        self.counts[layer, :reach] += seen.visible[0].sum(0).cpu()

    def result(self) -> Tensor:
        return self.sums


def compare_attention(adapter: Adapter, batch: Batch) -> tuple[float, str]:
    """The attention that each token of one sample receives, against the model's own eager attention."""
    total = _Total(batch, adapter.depth)
    with Capture(adapter) as capture, torch.no_grad():
        capture.observers = [(Rows.where(batch.valid.to(adapter.device)), [total])]
        adapter.backbone(batch, adapter.inputs(batch))
        seen = set(capture.layers_seen)
    if missing := sorted(set(range(adapter.depth)) - seen):
        raise UnsupportedModel(
            f"layers {missing} do not go through transformers' AttentionInterface; they cannot be measured"
        )
    reference = torch.stack(eager_attentions(adapter, batch, lambda maps: maps[0].float().mean(0).sum(0).cpu()))
    # a token's column sums over as many rows as see it; the last ones are seen by few
    difference = float(((total.sums - reference).abs() / total.counts.clamp(min=1)).max())
    return difference, f"{len(seen)} of {adapter.depth} layers against eager attention, per token and row that sees it"


def compare_rerun(adapter: Adapter, batch: Batch) -> tuple[float | None, str]:
    """Losses after masking one sample at several depths, each against the whole model with a hook."""
    layers = sorted({0, adapter.depth // 2, adapter.depth - 1})
    eligible: Any = "image" if batch.image_mask.any() else "context"
    needs = [MaskedLoss(Masking(depth=layer, sinks="keep", eligible=eligible)) for layer in layers]
    ranking = needs[0].masking.ranking(adapter.depth)
    with Capture(adapter) as capture:
        found = measure(capture, batch, [*needs, ranking])
    worst = 0.0
    for layer, need in zip(layers, needs, strict=True):
        chosen = choose_tokens(need.masking, batch, found[ranking])  # (1, T)
        if not chosen.any():
            return None, "no token of this sample can be masked"
        slow = hooked_loss(adapter, batch, layer, need.masking, chosen).cpu()
        worst = max(worst, float((found[need] - slow).abs().max()))
    return worst, f"resumed at layers {', '.join(map(str, layers))} against the whole model with a hook"


def hooked_loss(adapter: Adapter, batch: Batch, layer: int, masking: Masking, chosen: Tensor) -> Tensor:
    """(B,) nats. The slow twin of a masked re-run: the whole model again, images too, with a hook before `layer`."""
    batch, chosen = on_device(batch, adapter.device), chosen.to(adapter.device)

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return with_states(args, kwargs, replace_states(masking, batch, states_of(args, kwargs), chosen))

    handle = adapter.layers[layer].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with _own_attention(adapter):
            return head_means(adapter, batch, adapter.backbone(batch, adapter.inputs(batch)), [Head()])[0]
    finally:
        handle.remove()


def eager_attentions(
    adapter: Adapter, batch: Batch, reduce: Callable[[Tensor], Tensor] = lambda maps: maps
) -> list[Tensor]:
    """What `reduce` makes of each text layer's own eager attention (B, H, T, T); one layer's is held at a time."""
    found: dict[int, Tensor] = {}

    def hook(layer: int, module: Any, args: Any, output: Any) -> None:
        if isinstance(output, tuple) and len(output) > 1 and isinstance(output[1], Tensor) and output[1].ndim == 4:
            found.setdefault(layer, reduce(output[1]))  # (B, H, T, T): an attention's output and probabilities

    with ExitStack() as undo:
        for layer, block in enumerate(adapter.layers):
            for module in block.modules():
                undo.callback(module.register_forward_hook(partial(hook, layer)).remove)
        with _own_attention(adapter, "eager"):
            adapter.backbone(batch, adapter.inputs(batch))
    if missing := sorted(set(range(adapter.depth)) - set(found)):
        raise UnsupportedModel(f"layers {missing} give no attention of their own to compare with")
    return [found[layer] for layer in range(adapter.depth)]


@contextmanager
def _own_attention(adapter: Adapter, name: str | None = None) -> Iterator[None]:
    """The model in eval mode, without gradients, its text attention its own (or the one called `name`)."""
    own = name or adapter.text.config._attn_implementation
    with Capture(adapter), torch.no_grad():  # which puts everything back afterwards
        set_text_attention(adapter, own)
        try:
            yield
        finally:
            set_text_attention(adapter, SCORING)
