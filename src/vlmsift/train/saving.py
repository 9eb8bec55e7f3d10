"""A model under training, as files. In: an adapter whose model learns. Out: folders that open like that model.

It reads the weights where they lie and writes aside: a training goes on after it as if nothing had been written.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from vlmsift.models import Adapter


class Writer:
    """Writes the model as it stands. Made before anything is done to the model, because it keeps how that was opened:
    its configuration, its precision, and the names of its weights.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.config = copy.deepcopy(adapter.model.config)
        self.dtype: torch.dtype = adapter.model.dtype
        self.names = tuple(adapter.model.state_dict())

    def __call__(self, folder: Path) -> None:
        """Write weights under their published names, configuration and processor to `folder`, made if need be."""
        model = self.adapter.model
        under_training = model.config
        model.config = copy.deepcopy(self.config)
        try:
            model.save_pretrained(folder, state_dict=self.weights())
            # it noted the precision in memory, where what learns is float32
            model.config.dtype = self.dtype
            model.config.save_pretrained(folder)
        finally:
            model.config = under_training
        self.adapter.processor.save_pretrained(folder)

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """Name, as it was when the model was opened -> tensor on the CPU in the model's own precision.

        LoRA's part is added to the weights; a module that PEFT wrapped is the copy that learns. Weights that are tied
        share their memory here too. What else hangs on the model is left out.
        """
        model = self.adapter.model
        lora = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
        found: dict[str, Tensor] = {}
        copies: dict[int, Tensor] = {}  # id of a parameter -> its copy
        for name, value in model.state_dict(keep_vars=True).items():
            plain = name if name in self.names else _unwrapped(name)
            if plain not in self.names:
                continue
            if id(value) not in copies:
                layer = lora.get(name.removesuffix(".base_layer.weight"))
                merged = value if layer is None else (value + layer.get_delta_weight("default")).to(value.dtype)
                copies[id(value)] = merged.detach().to("cpu", self.dtype if value.is_floating_point() else value.dtype)
            found[plain] = copies[id(value)]
        return {name: found[name] for name in self.names}


def _unwrapped(name: str) -> str:
    """A parameter's name without the modules that PEFT puts around its owner."""
    return name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")
