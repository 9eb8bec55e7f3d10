"""Attention as numbers: the probabilities of some query rows, never (H, T, T) for a whole model.

In: q and k as the model's own attention function gets them (after rotary positions and norms), its mask, and which rows
are wanted. Out: float32 probabilities of those rows, a chunk at a time, for observers to reduce at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 23
"""Largest (B, H, R, T) chunk held at once, in elements: 32 MiB of float32."""


@dataclass(frozen=True)
class Rows:
    """Chosen query rows of a batch, each sample's in order, filled up to the largest count R."""

    index: Tensor  # (B, R) int64 positions
    chosen: Tensor  # (B, R) bool; False for filling
    known: list[tuple[Tensor | None, bool, Tensor, Tensor]] = field(default_factory=list, compare=False)
    """The last masks, and what was made of them: all layers of one kind are given the same mask."""

    @classmethod
    def where(cls, mask: Tensor, device: torch.device | None = None) -> Rows:
        """The rows at which a (B, T) mask is True, on `device`; the mask had best lie in the host's memory."""
        count = int(mask.sum(1).max())
        index = torch.argsort(~mask, dim=1, stable=True)[:, :count]  # (B, R); argsort is not stable by default
        rows = cls(index, mask.gather(1, index))
        if device is None or device == mask.device:
            return rows
        placed = cls(index.to(device, non_blocking=True), rows.chosen.to(device, non_blocking=True))
        placed.__dict__["farthest"] = rows.farthest  # read before it is out of reach
        return placed

    @cached_property
    def farthest(self) -> list[int]:
        """(R,) the largest position of any sample at each place."""
        positions: list[int] = self.index.amax(0).tolist()
        return positions

    def parts(self, step: int) -> Iterator[tuple[Rows, int]]:
        """At most `step` rows of each sample at a time, and their largest position."""
        count = self.index.shape[1]
        if 0 < count <= step:
            yield self, max(self.farthest)
            return
        for start in range(0, count, step):
            part = slice(start, start + step)
            yield Rows(self.index[:, part], self.chosen[:, part]), max(self.farthest[part])

    def sight(self, mask: Tensor | None, keys: int, causal: bool) -> tuple[Tensor, Tensor]:
        """`visible_keys` (B, R, `keys`) bool of these rows, and (B, 1, R, `keys`) its opposite."""
        for before, was_causal, visible, hidden in self.known:
            if before is mask and was_causal == causal and visible.shape[2] == keys:
                return visible, hidden
        visible = visible_keys(mask, self, keys, causal)
        hidden = ~visible[:, None]
        self.known[:] = [*self.known[-1:], (mask, causal, visible, hidden)]  # two: of full layers, of sliding windows
        return visible, hidden


@dataclass(frozen=True)
class Seen:
    """What a chunk of query rows attends to in one layer."""

    probabilities: Tensor  # (B, H, R, T') float32; T' <= T, later keys are invisible to all these rows
    visible: Tensor  # (B, R, T') bool, the keys that each row may see; the same tensor in all layers of a kind
    rows: Rows

    @cached_property
    def mean(self) -> Tensor:
        """(B, R, T') mean over heads; several observers want it."""
        return self.probabilities.mean(1)


class Observer(Protocol):
    """Reduces attention rows, layer by layer, to what a need asks for."""

    layers: frozenset[int]

    def see(self, layer: int, seen: Seen) -> None:
        """Take in one chunk of rows of one layer."""

    def result(self) -> Tensor:
        """The measurement, float32."""


def visible_keys(mask: Tensor | None, rows: Rows, keys: int, causal: bool) -> Tensor:
    """(B, R, `keys`) bool: which keys each row may attend to. A missing mask means causal, or all where not causal."""
    count = len(rows.index)
    if mask is None:
        if not causal:
            return torch.ones((count, rows.index.shape[1], keys), dtype=torch.bool, device=rows.index.device)
        return torch.arange(keys, device=rows.index.device) <= rows.index[:, :, None]  # (B, R, keys)
    allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    allowed = allowed[:, 0].expand(count, -1, -1)  # (B, T, T)
    return allowed.gather(1, rows.index[:, :, None].expand(-1, -1, allowed.shape[-1]))[..., :keys]


def attention_chunks(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    rows: Rows,
    *,
    scaling: float,
    causal: bool,
    softcap: float | None = None,
) -> Iterator[Seen]:
    """Attention probabilities of the given rows in chunks of bounded size.

    Args:
        query: (B, H, T, d); key: (B, H_kv, T, d) with H a multiple of H_kv.
        mask: bool or additive (B or 1, 1, T, T), or None.
    """
    batch, heads, _, width = query.shape
    key_heads, length = key.shape[1], key.shape[2]
    keys = key.float().transpose(2, 3)  # (B, H_kv, d, T)
    step = max(1, CHUNK_ELEMENTS // (batch * heads * length))
    for part, last in rows.parts(step):
        # under plain causality no row of this chunk sees past its last one, so later keys need not be touched
        reach = last + 1 if mask is None and causal else length
        place = part.index[:, None, :, None].expand(-1, heads, -1, width)  # (B, H, R, d)
        chosen = query.gather(2, place).float().mul_(scaling)  # (B, H, R, d)
        grouped = chosen.view(batch * key_heads, -1, width)  # (B * H_kv, H / H_kv * R, d): heads that share a key
        seen = keys[..., :reach].reshape(batch * key_heads, width, reach)  # (B * H_kv, d, T')
        scores = torch.bmm(grouped, seen).view(batch, heads, -1, reach)  # (B, H, R, T')
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        visible, hidden = part.sight(mask, reach, causal)  # (B, R, T'), (B, 1, R, T')
        scores.masked_fill_(hidden, torch.finfo(scores.dtype).min)
        yield Seen(torch.softmax(scores, -1), visible, part)


def without_keys(visible: Tensor, dropped: Tensor) -> Tensor:
    """(B, T, T) bool without the dropped keys (B, T); a dropped position still sees itself, so no row is left empty."""
    itself = torch.eye(visible.shape[-1], dtype=torch.bool, device=visible.device)
    return visible & (~dropped[:, None, :] | itself)


def visible_means(value: Tensor, mask: Tensor | None, heads: Sequence[int], *, count: int, causal: bool) -> Tensor:
    """What heads give out that look at every key they may see alike: (B, T, len(heads), d), summed in float32.

    Args:
        value: (B, H_kv, T, d).
        heads: of the H = `count` query heads; those that share a value head give out the same.
    """
    batch, value_heads, length, _ = value.shape
    shared = torch.tensor([head * value_heads // count for head in heads]).to(value.device, non_blocking=True)
    values = value[:, shared].float()  # (B, len(heads), T, d)
    everything = torch.arange(length, device=value.device).expand(batch, -1)  # (B, T)
    step = max(1, CHUNK_ELEMENTS // (batch * length))
    parts = []
    for start in range(0, length, step):
        index = everything[:, start : start + step]
        visible = visible_keys(mask, Rows(index, torch.ones_like(index, dtype=torch.bool)), length, causal).float()
        share = visible / visible.sum(-1, keepdim=True).clamp(min=1)  # rows of padding may see nothing
        parts.append(share[:, None] @ values)  # (B, len(heads), R, d)
    return torch.cat(parts, 2).transpose(1, 2).to(value.dtype)  # (B, T, len(heads), d)
