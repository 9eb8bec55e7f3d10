"""Which heads look things up: probes with a needle, and how often each head copies it.

In: an open capture, and how many probes of what length. Out: a score per head, and the heads that lead.

Source: AttentionInfluence (arXiv 2505.07293): 800 probes below 4,096 tokens, a JSON object of random keys and of values
of at most 30 tokens, three examples, the top 5 % of heads. Ours, where the paper is silent or its data is not at hand:
values are words of the model's vocabulary, not sentences of the web, and those of the needle stand in no other value:
else a head that looks at any equal token would count as one that copies; as many pairs as fit; the answer is
teacher-forced, not generated; a token that the needle holds twice counts once, as the paper's sets have it; and the
needle in an image.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vlmsift.errors import UsageError
from vlmsift.models.silence_transformers import silence_transformers
from vlmsift.passes.attention import Observer, Rows, Seen
from vlmsift.passes.capture import Capture
from vlmsift.passes.measure import measure
from vlmsift.passes.needles import image_probe, probe_picture, text_probe
from vlmsift.passes.needs import Observe
from vlmsift.types import Batch


@dataclass(frozen=True, slots=True)
class RetrievalHeads:
    """What the probes found."""

    scores: Tensor  # (L, H) float32, 0 .. 1, mean over probes of the share of the needle that a head copies
    heads: tuple[tuple[int, int], ...]  # (layer, head) of the leading ones, best first

    @property
    def word(self) -> str:
        """The heads as the field of `attention_influence`: "12.3+14.0"."""
        return "+".join(f"{layer}.{head}" for layer, head in self.heads)


def retrieval_heads(
    capture: Capture,
    *,
    needle: Literal["text", "image"] = "text",
    probes: int = 800,
    tokens: int = 4096,
    examples: int = 3,
    share: float = 0.05,
    seed: int = 0,
) -> RetrievalHeads:
    """Score every head on seeded probes, one forward each, and name the leading ones.

    Args:
        needle: "text", a value in a JSON object; or "image" (ours), the colour of one of three plain images, where a
            head copies as often as it looks at the right image most. There a head that looks at images blindly gets
            1/3.
        tokens: longest probe; the model's context where that is shorter. Text needles only.
        examples: answered queries before the one that counts; fewer where `tokens` has no room. Text needles only.
        share: of all heads, rounded down, at least one; ties go to the lower layer and head. A head that never copied
            is not among them.

    Raises:
        UsageError: an argument that cannot be meant, or no head ever copied.
    """
    if needle not in ("text", "image"):
        raise UsageError(f"needle={needle!r} is unknown. Give one of: text, image.")
    if probes < 1 or examples < 0 or not 0 < share <= 1:
        raise UsageError(
            f"probes={probes}, examples={examples}, share={share} cannot be meant; give at least 1 probe, 0 examples "
            "and a share above 0 and at most 1, e.g. 0.05"
        )
    adapter = capture.adapter
    encoder = replace(adapter.encoder(probe_picture), context=1 << 30)  # a probe is cut to length, not refused
    total = torch.zeros(adapter.depth * int(adapter.text_config.num_attention_heads), dtype=torch.float64)
    with silence_transformers():  # the tokenizer remarks on probes that are then cut
        for number in range(probes):
            draw = random.Random(f"{seed}:{number}")
            if needle == "text":
                encoded, image = text_probe(encoder, draw, min(tokens, adapter.context), examples), None
            else:
                encoded, image = image_probe(encoder, draw)
            need = Copies(image)
            total += measure(capture, encoder.collate([encoded]), [need])[need][0].double()
    return leading_heads((total / probes).float().view(adapter.depth, -1), share)


def leading_heads(scores: Tensor, share: float) -> RetrievalHeads:
    """The `share` of heads with the highest of (L, H) scores; see `retrieval_heads`."""
    flat, heads = scores.flatten(), scores.shape[1]  # (L * H,)
    count = max(1, int(share * flat.numel() + 1e-6))
    order = flat.argsort(descending=True, stable=True)[:count].tolist()
    chosen = tuple((index // heads, index % heads) for index in order if flat[index] > 0)
    if not chosen:
        raise UsageError("no head copied a token of any needle: this model does not look things up; train it further")
    return RetrievalHeads(scores, chosen)


@dataclass(frozen=True, slots=True)
class Copies(Observe):
    """Share of an answer's distinct tokens that each head copies: (B, L * H) float32; NaN where none counts.

    A head copies a token if, in the row that predicts it, its arg-max among the positions up to there holds the same
    token; in an image probe, if that position lies in the asked image. Special tokens of the answer do not count.
    """

    image: int | None = None  # the asked image; None = the answer's own tokens are the needle

    def rows(self, batch: Batch) -> Tensor:
        return batch.query_mask

    def observer(self, batch: Batch, depth: int) -> Observer:
        return _Copies(batch, depth, self.image)


class _Copies:
    def __init__(self, batch: Batch, depth: int, image: int | None) -> None:
        self.layers, self.image = frozenset(range(depth)), image
        self.image_index = batch.image_index
        self.tokens = batch.inputs["input_ids"].to(batch.valid.device)
        host = batch.on_host
        following = torch.zeros_like(host.query_mask)
        following[:, :-1] = host.special_mask[:, 1:]  # (B, T): the next token is special
        self.counting = Rows.where(host.query_mask & ~following, batch.valid.device)  # (B, n)
        self.shape = batch.valid.shape
        self.copied: dict[int, Tensor] = {}  # layer -> (B, H, T) bool

    def see(self, layer: int, seen: Seen) -> None:
        index = seen.rows.index  # (B, R)
        top = seen.probabilities.argmax(-1)  # (B, H, R)
        batch, heads, _ = top.shape
        looked = self.tokens if self.image is None else self.image_index
        held = looked.gather(1, top.reshape(batch, -1)).view(top.shape)  # (B, H, R)
        wanted = self.tokens.gather(1, index + 1)[:, None] if self.image is None else self.image  # (B, 1, R)
        if layer not in self.copied:
            self.copied[layer] = torch.zeros((batch, heads, self.shape[1]), dtype=torch.bool, device=index.device)
        self.copied[layer].scatter_(2, index[:, None].expand(-1, heads, -1), held == wanted)

    def result(self) -> Tensor:
        copied = torch.cat([self.copied[layer] for layer in sorted(self.copied)], 1)  # (B, L * H, T)
        places, counts = self.counting.index, self.counting.chosen  # (B, n)
        kind = self.tokens.gather(1, (places + 1).clamp(max=self.shape[1] - 1))  # (B, n)
        alike = (kind[:, :, None] == kind[:, None]) & counts[:, :, None] & counts[:, None]  # (B, n, n)
        first = counts & ~alike.tril(-1).any(2)  # (B, n): a token's first place stands for all that hold the same
        hit = copied.gather(2, places[:, None].expand(-1, copied.shape[1], -1)) & counts[:, None]  # (B, L * H, n)
        once = (torch.bmm(hit.float(), alike.float()) > 0) & first[:, None]  # (B, L * H, n)
        share: Tensor = once.sum(2) / first.sum(1, keepdim=True)  # (B, L * H); the mean of nothing is NaN
        return share
