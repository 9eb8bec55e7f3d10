"""Random weights that are not degenerate: in goes a freshly built model, out comes the same model, lively.

A new model's weights are so small that attention is uniform, losses are all log(vocabulary) and some parts are exactly
zero (Gemma3's projector, InternVL's position embeddings): a test on it would pass for wrong reasons.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Larger values make attention sharper, but also blow float32's rounding up past the 1e-5 that the tests ask for:
# with 1.5 and 0.5 the logits of a padded sample differed by 5e-5 from those of the sample alone, with these by 1e-5.
GAIN = 1.2  # a matrix multiplies the size of its input by about this
EMBEDDING = 0.3  # standard deviation of what enters the residual stream
JITTER = 0.2  # around the constants: norms stay near their one, biases leave their zero


@torch.no_grad()
def scatter(model: nn.Module, seed: int) -> None:
    """Re-draw every floating-point parameter of `model` in place, as a function of `seed` and its name order."""
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like.dtype)

    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for _, parameter in sorted(model.named_parameters()):
        if not parameter.is_floating_point():
            continue
        if parameter.ndim == 1 and parameter.unique().numel() == 1:
            # norms, biases, layer scales: all ones or all zeros (a Gemma norm multiplies by one plus its weight)
            parameter.add_(JITTER * noise(parameter))
        elif id(parameter) in tables or parameter.ndim in (1, 3):
            # tables of tokens and positions, and lone vectors: class token, image newline
            parameter.copy_(EMBEDDING * noise(parameter))
        else:
            # linear layers are (out, in); convolutions (out, in, height, width), with time for videos
            fan_in = parameter[0].numel()
            parameter.copy_(GAIN / fan_in**0.5 * noise(parameter))
