"""Where in its picture each image token lies, whatever the family. In: a model and pictures' sizes. Out: (T, 4) boxes.

Two maps meet at the pixels that the processor hands to the model. Its side is read off pictures sent through it: black,
white, and one grey ramp across and one down, so that each of its numbers says which place of the picture it shows,
whatever was cropped, resized, tiled, cut into patches or put into another order. The model's side is read off
gradients: where no position of the vision tower looks at another, a number moves the token that it is part of and no
other, and a random code on the tokens, sent back, tells which one. A number that moves several tokens alike (a
resampler reads the whole picture) belongs to none, and a token without numbers (the end of a row) has no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from vlmsift.models import Adapter
from vlmsift.passes.intervene import states_of
from vlmsift.types import Batch, Sample

CODES = 24  # numbers of a token's code, each of which takes one backward pass of the vision tower
NUMBERS = 128  # of the picture per token that are looked at, at most
ALIKE = 0.9  # least |cosine| between what comes back to a number and the code of the token that it belongs to
OWNED = 0.75  # least share of the numbers that must belong to some token, or the model mixes the whole picture
_BLOCK = 1 << 25  # cosines held at a time

Size = tuple[int, int]
"""Width and height of a picture, in pixels."""


class ImagePlaces:
    """Finds boxes for one model, and remembers them by the pictures' sizes: nothing else about a picture matters."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._known: dict[tuple[Size, ...], Tensor] = {}

    def __call__(self, sample: Sample, sizes: Sequence[Size]) -> Tensor:
        """(I, 4) float32 [left, top, right, bottom], as shares of its picture, of a sample's I image tokens in order.

        NaN where a token stands for no place. `sizes` are those of the sample's pictures, in order.
        """
        key = tuple(sizes)
        if key not in self._known:
            self._known[key] = _find(self.adapter, sample, key)
        return self._known[key]


def _find(adapter: Adapter, sample: Sample, sizes: tuple[Size, ...]) -> Tensor:
    named = replace(sample, images=tuple(map(str, range(len(sizes)))))
    shown = {kind: adapter.encoder(partial(_draw, kind, sizes)) for kind in _KINDS}
    encoded = {kind: encoder.encode(named) for kind, encoder in shown.items()}
    batch = shown["noise"].collate([encoded["noise"]])
    back = _sent_back(adapter, batch)  # name -> (K, numbers)
    codes = _codes(int(batch.image_mask.sum()))  # (K, I)
    boxes = torch.full((codes.shape[1], 4), torch.nan)
    found = [_shown_place({kind: one.images[name] for kind, one in encoded.items()}) for name in back]
    if not found:
        return boxes
    across, down = (torch.cat(parts) for parts in zip(*((one[0], one[1]) for one in found), strict=True))  # (N,) each
    pitch = torch.stack([one[2] for one in found]).amax(0)  # (2,)
    gradient = torch.cat(list(back.values()), 1)  # (K, N)
    strength = gradient.norm(dim=0)  # (N,)
    there = (across.isfinite() & (strength > 1e-3 * strength.max())).nonzero()[:, 0]
    drawn = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))[: NUMBERS * codes.shape[1]]
    there = there[drawn]
    owner = _owners(gradient[:, there], codes)  # (n,), -1 where none
    if (owner >= 0).float().mean() < OWNED:
        return boxes
    places = torch.stack([across[there], down[there]], 1)[owner >= 0]  # (n, 2)
    owner = owner[owner >= 0, None].expand(-1, 2)
    low = torch.full((codes.shape[1], 2), torch.inf).scatter_reduce(0, owner, places, "amin") - pitch / 2  # (I, 2)
    high = torch.full_like(low, -torch.inf).scatter_reduce(0, owner, places, "amax") + pitch / 2
    boxes = torch.cat([low, high], 1).clamp(0, 1)
    return boxes.masked_fill(low.isinf().any(1, keepdim=True), torch.nan)


_KINDS = ("noise", "black", "white", "across", "down")


def _draw(kind: str, sizes: Sequence[Size], ref: Any) -> Image.Image:
    """The picture numbered `ref`, RGB."""
    width, height = sizes[int(ref)]
    if kind == "noise":
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    elif kind in ("black", "white"):
        pixels = np.full((height, width, 3), 255 if kind == "white" else 0)
    else:
        length = width if kind == "across" else height
        ramp = 255 * (np.arange(length) + 0.5) / length  # a pixel's middle
        grey = np.broadcast_to(ramp[None, :] if kind == "across" else ramp[:, None], (height, width))
        pixels = np.repeat(grey[..., None], 3, axis=2).round()
    return Image.fromarray(pixels.astype(np.uint8))


def _shown_place(pixels: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) across and (N,) down of each number that the processor made, NaN for padding; (2,) from one to the next."""
    black, white = pixels["black"].flatten().float(), pixels["white"].flatten().float()
    span = white - black
    padding = span.abs() < 1e-3 * span.abs().amax().clamp(min=1e-6)
    places, steps = [], []
    for kind in ("across", "down"):
        place = ((pixels[kind].flatten().float() - black) / span).masked_fill(padding, torch.nan)
        step = place.diff().abs()
        places.append(place)
        steps.append(step[step > 1e-4].median() if (step > 1e-4).any() else torch.tensor(0.0))
    return places[0], places[1], torch.stack(steps)


def _codes(count: int) -> Tensor:
    """(K, I) a random code per image token."""
    return torch.randn(CODES, count, generator=torch.Generator().manual_seed(1))


def _sent_back(adapter: Adapter, batch: Batch) -> dict[str, Tensor]:
    """Image input -> (K, numbers) float32: what the codes on the image tokens' states send back to each number."""
    inputs = adapter.inputs(batch)
    pixels = {}
    for name, value in inputs.items():
        if value.is_floating_point() and value.numel() > batch.valid.numel():
            pixels[name] = inputs[name] = value.detach().requires_grad_()
    with torch.enable_grad(), Apart():
        states = entering(adapter, batch, inputs)[batch.image_mask.to(adapter.device)].float()  # (I, D)
        if not states.requires_grad:  # they come out of a codebook
            return {}
        generator = torch.Generator().manual_seed(2)
        read = (states @ torch.randn(states.shape[1], generator=generator).to(states)) @ _codes(len(states)).T.to(
            states
        )
    back: dict[str, list[Tensor]] = {name: [] for name in pixels}
    for number in read:
        found = torch.autograd.grad(number, list(pixels.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(pixels, found, strict=True):
            if gradient is not None:
                back[name].append(gradient.flatten().float().cpu())
    return {name: torch.stack(rows) for name, rows in back.items() if rows}


def _owners(gradient: Tensor, codes: Tensor) -> Tensor:
    """(n,) the token that each number moves, of gradients (K, n) and codes (K, I); -1 where it moves several alike."""
    units, tokens = functional.normalize(gradient, dim=0), functional.normalize(codes, dim=0)
    owners = []
    step = max(1, _BLOCK // tokens.shape[1])
    for start in range(0, units.shape[1], step):
        cosine, owner = (tokens.T @ units[:, start : start + step]).abs().max(0)  # (step,) each
        owners.append(owner.masked_fill(cosine < ALIKE, -1))
    return torch.cat(owners)


class _Entered(Exception):
    """The way out of a forward once its decoder is reached; it carries (B, T, D)."""


def entering(adapter: Adapter, batch: Batch, inputs: dict[str, Any]) -> Tensor:
    """(B, T, D) states that enter the first text layer."""

    def leave(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Entered(states_of(args, kwargs))

    handle = adapter.layers[0].register_forward_pre_hook(leave, with_kwargs=True)
    try:
        adapter.backbone(batch, inputs)
    except _Entered as entered:
        states: Tensor = entered.args[0]
        return states
    finally:
        handle.remove()
    raise RuntimeError(f"{adapter.name}: its first text layer was not reached")


class Apart(TorchFunctionMode):
    """Inside it no position looks at another: self-attention attends to itself, convolutions do not overlap.

    Attention from one sequence to another stays: whoever reads the whole picture by it shall be seen to.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            query, key, value = (*args, *(kwargs[name] for name in ("query", "key", "value")[len(args) :]))[:3]
            if query.shape[-2] == key.shape[-2]:
                return value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        elif func in (torch.conv2d, torch.conv3d):
            given = {**dict(zip(("input", "weight", "bias", "stride", "padding"), args, strict=False)), **kwargs}
            args, kwargs = (), {**given, "weight": _own_taps(**given)}
        elif func in (functional.softmax, torch.softmax, Tensor.softmax):
            scores = args[0] if args else kwargs["input"]
            if scores.ndim > 2 and scores.shape[-1] == scores.shape[-2]:
                itself = torch.eye(scores.shape[-1], dtype=kwargs.get("dtype") or scores.dtype, device=scores.device)
                return itself.expand_as(scores)
        return func(*args, **kwargs)


def _own_taps(weight: Tensor, stride: Any = 1, padding: Any = 0, **other: Any) -> Tensor:
    """A convolution's weights (out, in, *kernel) without the taps that reach into another step's part of the input."""
    axes = weight.ndim - 2
    steps, margins = ((value,) * axes if isinstance(value, int) else value for value in (stride, padding))
    place = [slice(None)] * 2
    for size, step, margin in zip(weight.shape[2:], steps, margins, strict=False):
        first = (size - 1) // 2 if step == 1 else margin  # the middle, or where the unpadded part begins
        place.append(slice(first, first + step) if size > step else slice(None))
    own = torch.zeros_like(weight)
    own[tuple(place)] = weight[tuple(place)]
    return own
