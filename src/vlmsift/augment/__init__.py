"""Stage 9: what selection has learnt, used again while training. In: a model in training. Out: the same, augmented.

with vlmsift.masked_states(model, probability=0.5):
    trainer.train()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from vlmsift.augment.answer_mask import AnswerMask
from vlmsift.augment.attended import Attended
from vlmsift.augment.context import Form, MaskedStates
from vlmsift.augment.head_mask import HeadMask
from vlmsift.augment.neftune import Neftune
from vlmsift.augment.rankings import Rankings
from vlmsift.augment.token_level_masking import TokenLevelMasking
from vlmsift.augment.variant import Shape, Variant
from vlmsift.errors import UsageError
from vlmsift.parameters import parse_fields

VARIANTS: dict[str, Callable[..., Variant]] = {
    "top": Attended,
    "stkim": partial(Attended, share=0.6),
    "hints": partial(Attended, hints=0.1),
    "random": partial(Attended, choose="random"),
    "tlm": TokenLevelMasking,
    "headmask": HeadMask,
    "meap": AnswerMask,
    "neftune": Neftune,
}
"""Word -> variant; each names its source. The first four mask hidden states: all that receive most attention
(Delta-AttnMask), a random 60 % of those (STKIM), those but for some hints (AttMask), and as many random ones (control).
"""

__all__ = [
    "VARIANTS",
    "MaskedStates",
    "Rankings",
    "Shape",
    "Variant",
    "context_of",
    "make_variant",
    "masked_states",
]


def masked_states(
    model: Any,
    variant: str | Variant = "top",
    *,
    probability: float = 0.5,
    form: Form = "second",
    rankings: Rankings | None = None,
    seed: int = 0,
    **fields: Any,
) -> MaskedStates:
    """Augment every training forward of a model while the returned context is open; labels stay as they are.

    Works under transformers' Trainer, TRL's SFTTrainer, gradient checkpointing, PEFT, autocast and
    DistributedDataParallel: open it around `trainer.train()`. In evaluation mode, without gradients, and after closing,
    the model computes what it always did. Draws depend on the seed, the process's rank and the forward's number.

    Args:
        model: a transformers model, also inside PEFT or DistributedDataParallel.
        variant: a word of `VARIANTS`, or a variant. "top" masks what receives most attention (Delta-AttnMask).
        probability: chance of each sample to be augmented in each forward.
        form: where the ranking comes from: a "second" forward without gradients; the layers below `depth` of the same
            forward ("one-pass", needs layers="below"); or "cached" after a sample's first second forward.
        rankings: for "cached", what is known already, e.g. from the scoring model (`Rankings.fill`).
        fields: of the variant, e.g. depth=0.5, ratio=0.3.

    Raises:
        UsageError: an argument that cannot be meant; at the first forward, a model or trainer that this cannot work
            under. UnsupportedModel: a model whose parts are not found, or an attention that cannot be watched.
    """
    return MaskedStates(model, make_variant(variant, probability, form, **fields), probability, form, rankings, seed)


def make_variant(variant: str | Variant, probability: float = 0.5, form: str = "second", **fields: Any) -> Variant:
    """The variant that `masked_states` would use; raises UsageError for whatever it would refuse of any model."""
    if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
        raise UsageError(f"probability={probability!r} is no chance; give a number from 0 to 1, e.g. 0.5")
    if form not in get_args(Form):
        raise UsageError(f"form={form!r} is unknown; choose among {', '.join(get_args(Form))}")
    if form == "one-pass" and isinstance(variant, str) and variant in ("top", "stkim", "hints"):
        fields = {"layers": "below", **fields}
    if not isinstance(variant, str):
        if fields:
            raise UsageError(f"give {', '.join(fields)} to the variant itself; it is made already")
        return variant
    try:
        made: Variant = _entry(variant)(**fields)
    except TypeError as error:
        raise UsageError(f"{variant} cannot be set up: {error}") from error
    return made


def _entry(name: str) -> Any:
    if name not in VARIANTS:
        raise UsageError(f"there is no augmentation {name!r}; choose among {', '.join(VARIANTS)}")
    return VARIANTS[name]


def context_of(word: str | None, probability: float = 0.5, seed: int = 0) -> Callable[[Any], MaskedStates] | None:
    """What `vlmsift.train` takes as `context`, from a word: "top", "top:depth=0.5,ratio=0.3"; None for None.

    Raises:
        UsageError: an unknown variant or field, or a value that cannot be meant.
    """
    if word is None:
        return None
    name, _, text = word.partition(":")
    entry = _entry(name)
    fields = parse_fields(entry.func if isinstance(entry, partial) else entry, name, text)
    make_variant(name, probability, **fields)  # a value that cannot be meant is told now, not when the model is loaded
    return partial(masked_states, variant=name, probability=probability, seed=seed, **fields)
