"""What selection has learnt, used again while training. In: a model in training. Out: the same, augmented.

with vlmsift.masked_states(model, probability=0.5):
    trainer.train()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from vlmsift.augment.answer_mask import AnswerMask
from vlmsift.augment.attended import Attended
from vlmsift.augment.context import MaskedStates, RankingFrom
from vlmsift.augment.head_mask import HeadMask
from vlmsift.augment.like import masking_of
from vlmsift.augment.neftune import Neftune
from vlmsift.augment.rankings import Rankings
from vlmsift.augment.token_level_masking import TokenLevelMasking
from vlmsift.augment.variant import Shape, Variant
from vlmsift.errors import UsageError
from vlmsift.parameters import check_value, parse_fields

if TYPE_CHECKING:
    from vlmsift.runs.run import Run

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
MASKING = ("top", "stkim", "hints", "random")

__all__ = ["VARIANTS", "MaskedStates", "Rankings", "Shape", "Variant", "context_of", "make_variant", "masked_states"]


def masked_states(
    model: Any,
    variant: str | Variant = "top",
    *,
    probability: float | None = None,
    ranking_from: RankingFrom = "second",
    rankings: Rankings | None = None,
    seed: int = 0,
    processor: Any = None,
    like: str | Path | Run | None = None,
    **fields: Any,
) -> MaskedStates:
    """Augment every training forward of a model while the returned context is open; labels stay as they are.

    Works under transformers' Trainer, TRL's SFTTrainer, gradient checkpointing, PEFT, autocast and
    DistributedDataParallel: open it around `trainer.train()`. In evaluation mode, without gradients, and after closing,
    the model computes what it always did. Draws depend on the seed, the process's rank and the forward's number.

    Args:
        model: a transformers model, also inside PEFT or DistributedDataParallel; or the trainer that trains it.
        variant: a word of `VARIANTS`, or a variant. "top" masks what receives most attention (Delta-AttnMask).
        probability: chance of each sample to be augmented in each forward; None = what the variant's source does: 1
            (always) for "tlm", "headmask", "meap" and "neftune", and 0.5 where states are masked (ours).
        ranking_from: a "second" forward without gradients ranks the tokens; or the layers below `depth` of the same
            forward ("one-pass", needs layers="below"); or it is "cached" after a sample's first second forward.
        rankings: for "cached", what is known already, e.g. from the scoring model (`Rankings.fill`).
        processor: the model's processor or tokenizer. With eligible="context" or "all" it says which tokens are special
            and stay; not needed where the model was opened by vlmsift, where the trainer is given, or with `like`.
        like: a run, or its folder: mask as its `delta_attnmask` did, the same tokens by the same settings.
        fields: of the variant, e.g. depth=0.5, ratio=0.3; they go before those of `like`.

    Raises:
        UsageError: an argument that cannot be meant, or special tokens that nobody can tell; at the first forward, a
            model or trainer that this cannot work under. UnsupportedModel: a model whose parts are not found, or an
            attention that cannot be watched.
    """
    special = None
    if like is not None:
        if variant not in MASKING:
            raise UsageError(
                f"like={str(like)!r} says how states are masked, which {variant} does not do; leave it out"
            )
        taken, special = masking_of(like)
        fields = {**taken, **fields}
    made = make_variant(variant, probability, ranking_from, **fields)
    chance = made.probability if probability is None else probability
    return MaskedStates(model, made, chance, ranking_from, rankings, seed, processor, special)


def make_variant(
    variant: str | Variant, probability: float | None = None, ranking_from: RankingFrom = "second", **fields: Any
) -> Variant:
    """The variant that `masked_states` would use; raises UsageError for whatever it would refuse of any model."""
    check_value("masked_states", "probability", probability, Annotated[float, msgspec.Meta(ge=0, le=1)] | None)
    check_value("masked_states", "ranking_from", ranking_from, RankingFrom)
    if ranking_from == "one-pass" and isinstance(variant, str) and variant in MASKING[:3]:
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


def context_of(
    word: str | None, probability: float | None = None, seed: int = 0
) -> Callable[[Any], MaskedStates] | None:
    """What `vlmsift.train` takes as `context`, from a word: "top", "top:depth=0.5,ratio=0.3"; None for None.

    Raises UsageError for an unknown variant or field, or a value that cannot be meant.
    """
    if word is None:
        return None
    name, _, text = word.partition(":")
    entry = _entry(name)
    fields = parse_fields(entry.func if isinstance(entry, partial) else entry, name, text)  # the class of a partial
    made = make_variant(name, probability, **fields)  # what cannot be meant is told now, not when the model is loaded
    chance = made.probability if probability is None else probability
    return partial(masked_states, variant=name, probability=chance, seed=seed, **fields)
