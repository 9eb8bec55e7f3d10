"""Choose hidden states by the attention they receive, and take them away at one depth.

In: (B, T) scores, and a `Masking` that says which tokens and what becomes of them. Out: (B, T) bool of chosen tokens,
and the changed states. Source: Delta-AttnMask (arXiv 2508.09199); each choice that the paper leaves open is a field.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from vlmsift.errors import UsageError
from vlmsift.parameters import Parameters, Share
from vlmsift.passes.attention_received import AttentionReceived, HeadsName, LayersName, RowsName
from vlmsift.passes.intervene import Intervention, drop_keys
from vlmsift.types import Batch

SINK_SHARE = 0.1
"""A token that receives more than this share of all rows' attention is a sink (ACT's released code, ICML 2024) ..."""
SINK_FACTOR = 10.0
"""... if that is also this many times the sample's mean: on short sequences a tenth is nothing special. Ours."""
Depth = Annotated[float, msgspec.Meta(ge=0, lt=1)] | int
"""A fraction of the layers, or a layer's index, from the end where negative."""


@dataclass(frozen=True)
class Masking(Parameters):
    """Which hidden states are masked, where, and how. Defaults are ours, from measurements; the paper states none.

    Attributes:
        depth: the states entering this layer are masked; a fraction of L (0.5 = half way) or an index (negative from
            the end; -1 = the last layer's input, the paper's likely choice).
        ratio: share of the eligible tokens that is masked, at least one token.
        eligible: "image" tokens, the "context" (all but answers and special tokens), or "all" but special tokens.
        rows: whose attention ranks the tokens: the "answer" rows (positions that predict an answer token), the "last"
            of them, or "all".
        layers: which layers' attention is averaged: "all", those "below" the depth, or those from it on ("above").
        replace: a masked state becomes "zero", the sample's "mean" state, the "pool" 's, "noise" of the mean norm, or
            it is left as it is and its key is dropped ("drop") from this layer on.
        heads: a row's attention is the "mean" of its heads, or the "max": that of the head that attends most.
        where: states are masked "once", at the depth, or at "every" layer from it on, so that no layer can fill them
            again. Dropped keys always stay dropped.
        state: the pool's mean state at the depth, D float32 in base64 (see `encode_state`); "" = `score` finds it.
        sinks: "exclude" attention sinks and the first position from the eligible tokens, or "keep" them.
        choose: the tokens that receive "top" or "bottom" attention, or "random" ones (the controls).
        seed: of random choice and noise, together with the sample's id.
    """

    depth: Depth = 0.25
    ratio: Share = 0.5
    eligible: Literal["image", "context", "all"] = "image"
    rows: RowsName = "answer"
    layers: LayersName = "all"
    replace: Literal["zero", "mean", "pool", "noise", "drop"] = "zero"
    sinks: Literal["exclude", "keep"] = "exclude"
    choose: Literal["top", "random", "bottom"] = "top"
    seed: int = 0
    heads: HeadsName = "mean"
    where: Literal["once", "every"] = "once"
    state: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replace == "pool" and self.where == "every":
            raise UsageError("replace='pool' is the mean state at one depth; with where='every' give another")

    def layer(self, depth: int) -> int:
        """The index of the layer whose input is masked, of L = `depth` layers."""
        if isinstance(self.depth, float):
            return int(self.depth * depth)
        index = self.depth + depth if self.depth < 0 else self.depth
        if not 0 <= index < depth:
            raise UsageError(f"depth={self.depth} is outside this model's {depth} layers; give {-depth} to {depth - 1}")
        return index

    def ranking(self, depth: int) -> AttentionReceived:
        """The attention that ranks the tokens."""
        layer = self.layer(depth)
        start, stop = {"all": (0, None), "below": (0, layer), "above": (layer, None)}[self.layers]
        if stop == 0:
            raise UsageError(
                "layers='below' needs a depth above 0: no layer lies below the first; use layers='all' or depth=0.5"
            )
        return AttentionReceived(self.rows, start, stop, self.heads)


def eligible_tokens(masking: Masking, batch: Batch, scores: Tensor) -> Tensor:
    """(B, T) bool: the tokens that may be chosen."""
    if masking.eligible == "image":
        eligible = batch.image_mask.clone()
    else:
        eligible = batch.valid & ~batch.special_mask
        if masking.eligible == "context":
            eligible &= batch.labels == -100
    if masking.sinks == "exclude":
        first = batch.valid.cumsum(1) == 1  # (B, T)
        mean = (scores * batch.valid).sum(1, keepdim=True) / batch.valid.sum(1, keepdim=True)  # (B, 1)
        eligible &= ~(first & batch.valid) & ~((scores > SINK_SHARE) & (scores > SINK_FACTOR * mean))
    return eligible


def choose_tokens(masking: Masking, batch: Batch, scores: Tensor) -> Tensor:
    """(B, T) bool: `ratio` of the eligible tokens, floor, at least one where any is; ties go to the lower position."""
    eligible = eligible_tokens(masking, batch, scores)
    if masking.choose == "random":
        lengths = batch.on_host.valid.sum(1).tolist()  # without padding: draws do not depend on the batch
        drawn = [
            torch.rand(length, generator=sample_generator(name, masking.seed))
            for name, length in zip(batch.ids, lengths, strict=True)
        ]
        flat = torch.cat(drawn).to(scores, non_blocking=True)  # (valid positions,), sample by sample
        scores = torch.zeros_like(scores).masked_scatter_(batch.valid, flat)
    elif masking.choose == "bottom":
        scores = -scores
    count = eligible.sum(1)  # (B,)
    # 0.65 of 180 is 117, but in binary it is a little less; float32 alone is not enough
    wanted = (count.double() * masking.ratio + 1e-6).floor().long().clamp(min=1).minimum(count)
    order = scores.masked_fill(~eligible, -torch.inf).argsort(dim=1, descending=True, stable=True)  # (B, T)
    chosen = torch.zeros_like(eligible)
    chosen.scatter_(1, order, torch.arange(scores.shape[1], device=scores.device) < wanted[:, None])
    return chosen


def masked(masking: Masking, batch: Batch, chosen: Tensor, depth: int) -> Intervention:
    """What becomes of the chosen tokens, (B, T) bool, in a decoder of L = `depth` layers."""
    layer, undefined = masking.layer(depth), ~chosen.any(1)  # (B,): where no token is eligible
    if masking.replace == "drop":
        return Intervention(layer, visible=drop_keys(chosen, layer), undefined=undefined, chosen=chosen)
    every = masking.where == "every"
    replaced = partial(replace_states, masking, batch, chosen=chosen)
    return Intervention(layer, replaced, every=every, undefined=undefined, chosen=chosen)


def replace_states(masking: Masking, batch: Batch, states: Tensor, chosen: Tensor) -> Tensor:
    """(B, T, D) states with the chosen ones replaced; "drop" leaves them."""
    if masking.replace == "drop":
        return states
    chosen = chosen.to(states.device)  # a model may be spread over devices
    if masking.replace == "zero":
        return states.masked_fill(chosen[..., None], 0)
    valid = batch.valid[..., None].to(states.device)  # (B, T, 1)
    count = valid.sum(1, keepdim=True)  # (B, 1, 1)
    if masking.replace == "pool":
        new = decode_state(masking.state, states.shape[-1]).to(states.device, non_blocking=True).expand_as(states)
    elif masking.replace == "mean":
        new = ((states.float() * valid).sum(1, keepdim=True) / count).expand_as(states)  # (B, T, D)
    else:
        norm = (states.float().norm(dim=-1, keepdim=True) * valid).sum(1, keepdim=True) / count  # (B, 1, 1)
        counts = chosen.sum(1).tolist()  # waits for the device: how much is drawn depends on what was chosen
        drawn = torch.cat(
            [
                torch.randn(count, states.shape[-1], generator=sample_generator(name, masking.seed + 1))
                for name, count in zip(batch.ids, counts, strict=True)
            ]
        )  # (chosen of all samples, D)
        flat = torch.nn.functional.normalize(drawn, dim=-1).to(states.device, non_blocking=True)
        new = torch.zeros_like(states, dtype=torch.float32).masked_scatter_(chosen[..., None], flat) * norm  # (B, T, D)
    return torch.where(chosen[..., None], new.to(states.dtype), states)


def encode_state(state: Tensor) -> str:
    """(D,) float32 as a word that a run can record."""
    return base64.b64encode(state.float().cpu().numpy().astype("<f4").tobytes()).decode()


@cache
def decode_state(word: str, width: int) -> Tensor:
    """The (D,) float32 of `encode_state`. Raises UsageError where it is none of a model of width D."""
    if not word:
        raise UsageError(
            "replace='pool' needs the pool's mean state: `score` finds it, a training takes it by like=RUN"
        )
    try:
        state = np.frombuffer(base64.b64decode(word, validate=True), "<f4")  # (D,)
    except ValueError:
        state = np.empty(0)
    if len(state) != width or not np.isfinite(state).all():
        raise UsageError(f"state={word[:20]!r}... is no state of this model, whose states are {width} numbers wide")
    return torch.from_numpy(state.copy())


def sample_generator(name: str, seed: int) -> torch.Generator:
    """A generator that depends on the sample and the seed only, not on the batch or the pool."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
