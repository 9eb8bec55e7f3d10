"""How the text looks at the image, as a spectrum: singular values of the text rows x image columns of attention.

In: attention summed over layers, R text rows x P image columns per sample. Out: the sum of its largest singular values,
exact. Source: XMAS (arXiv 2510.01454), in two forms: the model's real attention, and what its released code computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vlmsift.models import Adapter
from vlmsift.passes.attention import CHUNK_ELEMENTS, Observer, Rows, Seen
from vlmsift.passes.needs import Observe, Watch, Watcher
from vlmsift.passes.outputs import projection
from vlmsift.types import Batch

SpectrumRows = Literal["text", "answer"]


def look_rows(name: SpectrumRows, batch: Batch) -> Tensor:
    """(B, T) bool: rows after the image begins. "text" = all but image and padding, "answer" = those that predict."""
    after = batch.image_mask.cumsum(1) > 0  # (B, T)
    return after & (batch.query_mask if name == "answer" else batch.valid & ~batch.image_mask)


def top_singular_sum(matrix: Tensor, count: int) -> float:
    """Sum of the `count` largest singular values of (R, P), all where there are fewer; NaN for an empty matrix.

    Exact, in float64 on the CPU: eigenvalues of the Gram matrix of the smaller side.
    """
    if not matrix.numel():
        return math.nan
    exact = matrix.cpu().double()
    if exact.shape[0] > exact.shape[1]:
        exact = exact.T  # the smaller side first
    values: Tensor = torch.linalg.eigvalsh(exact @ exact.T)  # (min(R, P),), ascending
    return float(values[-count:].clamp(min=0).sqrt().sum())


def _sums(total: Tensor, rows: list[int], columns: list[int], count: int) -> Tensor:
    """(B,) of (B, R, P), of which each sample has so many rows and columns; on the CPU, fetched at once."""
    matrices = total.cpu()
    sizes = zip(rows, columns, strict=True)
    sums = [top_singular_sum(matrices[sample, :n, :m], count) for sample, (n, m) in enumerate(sizes)]
    return torch.tensor(sums, dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class ImageSpectrum(Observe):
    """Of the model's own attention, mean over heads, sum over layers: (B,) float32; NaN without image or rows after."""

    row_name: SpectrumRows = "text"  # see `look_rows`
    top: int = 5  # how many singular values are summed

    def rows(self, batch: Batch) -> Tensor:
        return look_rows(self.row_name, batch)

    def observer(self, batch: Batch, depth: int) -> Observer:
        return _Spectrum(_Matrix(batch, self.rows(batch.on_host)), frozenset(range(depth)), self.top)


class _Matrix:
    """Text rows x image columns of every sample, filled up to the largest: (B, R, P) zeros to add to."""

    def __init__(self, batch: Batch, looking: Tensor) -> None:
        image, device = batch.on_host.image_mask, batch.valid.device  # (B, T)
        self.looking, self.patches = Rows.where(looking, device), Rows.where(image, device)
        self.rows, self.columns = looking.sum(1).tolist(), image.sum(1).tolist()  # of each sample
        shape = (*self.looking.index.shape, self.patches.index.shape[1])
        self.total = torch.zeros(shape, dtype=torch.float32, device=device)

    def top_sums(self, count: int) -> Tensor:
        """(B,) see `top_singular_sum`."""
        return _sums(self.total, self.rows, self.columns, count)


class _Spectrum:
    """Sums (B, R, P) over layers, chunk of rows by chunk; P counts the image positions of the sample with most."""

    def __init__(self, matrix: _Matrix, layers: frozenset[int], top: int) -> None:
        self.matrix, self.layers, self.top = matrix, layers, top
        self.layer, self.done = -1, 0  # rows of this layer that have come by

    def see(self, layer: int, seen: Seen) -> None:
        if layer != self.layer:
            self.layer, self.done = layer, 0
        count, reach = seen.mean.shape[1:]
        patches = self.matrix.patches.index  # (B, P)
        place = patches.clamp(max=reach - 1)[:, None].expand(-1, count, -1)  # (B, R, P)
        inside = (patches < reach)[:, None]  # patches after all these rows are not seen by them
        self.matrix.total[:, self.done : self.done + count] += seen.mean.gather(2, place) * inside
        self.done += count

    def result(self) -> Tensor:
        return self.matrix.top_sums(self.top)


@dataclass(frozen=True, slots=True)
class ReleasedSpectrum(Watch):
    """Of what XMAS's released code takes for attention, sum over layers: (B,) float32; NaN as `ImageSpectrum`.

    Reproduced: queries and keys change places, softmax(K Q^T), since the function is defined with keys first and called
    with queries first, so a text row's key looks at the image's queries; both are the projections' outputs, before
    norms and rotary positions; heads are not split, so there is one softmax over the whole width W, scaled by
    1 / sqrt(W); a narrower key (grouped queries) is widened by repeating each of its elements; no causal mask, so rows
    look at what comes later too. Not reproduced: positions of one template (rows from 612, columns 35 .. 610; here the
    text after the image begins, and the image's tokens), padding (here valid tokens only), and the randomised SVD.

    Raises UnsupportedModel where a layer has no `q_proj` and `k_proj` of its own.
    """

    row_name: SpectrumRows = "text"
    top: int = 5

    def watcher(self, adapter: Adapter, batch: Batch) -> Watcher:
        return _Released(look_rows(self.row_name, batch.on_host), adapter, batch, self.top)


class _Released(Watcher):
    def __init__(self, looking: Tensor, adapter: Adapter, batch: Batch, top: int) -> None:
        self.matrix, self.valid, self.top = _Matrix(batch, looking), batch.valid, top
        self.modules: dict[tuple[int, str], nn.Module] = {
            (layer, name): projection(adapter, layer, name)
            for layer in range(adapter.depth)
            for name in ("q_proj", "k_proj")
        }
        self.waiting: dict[str, Tensor] = {}

    def take(self, key: tuple[int, str], output: Tensor) -> None:
        self.waiting[key[1]] = output.to(self.valid.device)  # (B, T, width)
        if len(self.waiting) == 2:
            self._add(self.waiting.pop("q_proj"), self.waiting.pop("k_proj"))

    def _add(self, query: Tensor, key: Tensor) -> None:
        """Both (B, T, width): this layer's share of every sample's matrix, some rows at a time."""
        batch, length, width = query.shape
        queries = query.float() / math.sqrt(width)  # (B, T, W)
        queries = queries.masked_fill(~self.valid[..., None], 0)  # padding's may be no numbers
        step = max(1, CHUNK_ELEMENTS // (batch * length))
        index, patches = self.matrix.looking.index, self.matrix.patches.index  # (B, R), (B, P)
        for start in range(0, index.shape[1], step):
            place = index[:, start : start + step, None]  # (B, step, 1)
            rows = key.gather(1, place.expand(-1, -1, key.shape[-1])).float()
            rows = rows.repeat_interleave(width // key.shape[-1], -1)  # (B, step, W)
            scores = torch.bmm(rows, queries.mT).masked_fill(~self.valid[:, None], -math.inf)  # (B, step, T)
            weights = torch.softmax(scores, -1).gather(2, patches[:, None].expand(-1, rows.shape[1], -1))
            self.matrix.total[:, start : start + step] += weights  # (B, step, P)

    def result(self) -> Tensor:
        return self.matrix.top_sums(self.top)
