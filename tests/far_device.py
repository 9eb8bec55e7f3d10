"""A device that is not there: tensors that say they lie on it, computed on the CPU, and every wait for it is noted.

In: a model, by `with on_far_device(model) as device`. Out: the model's own numbers, and `device.waits`: what would stop
the host on an accelerator until all that it was told is done, each with the lines of ours that led there. What
`torch.tensor` makes on the device of plain numbers has none here, so a model that does so (Qwen-VL) cannot be used.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FAR = torch.device("meta")  # which torch knows everywhere, and asks nothing of
ATEN = torch.ops.aten
READ: tuple[Any, ...] = (
    *(ATEN._local_scalar_dense.default, ATEN.nonzero.default, ATEN.equal.default, ATEN.masked_select.default),
    *(ATEN._unique2.default, ATEN.unique_consecutive.default, ATEN.repeat_interleave.Tensor, ATEN.bincount.default),
)
"""What has a result whose value or shape the host must know."""
INDEXING: tuple[Any, ...] = (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default)


class Far(torch.Tensor):
    """A tensor that lies on `FAR`."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=FAR,
            requires_grad=False,
        )

    def __init__(self, near: torch.Tensor) -> None:
        self.near = near

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{function} outside of the device's mode")


class FarDevice(TorchDispatchMode):
    """While it is open, `FAR` can be computed on."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        far = [tensor for tensor in given if isinstance(tensor, Far)]
        goes, comes = kwargs.get("device") == FAR, bool(far) and kwargs.get("device") == torch.device("cpu")
        if reason := self._waits(function, args, kwargs, given, far, goes, comes):
            ours = [frame for frame in traceback.extract_stack() if "/vlmsift/" in frame.filename]
            place = " <- ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(ours[-3:]))
            self.waits.append(f"{reason}: {function} at {place}")
        if goes:
            kwargs["device"] = torch.device("cpu")
        near_args, near_kwargs = tree_map(lambda leaf: leaf.near if isinstance(leaf, Far) else leaf, (args, kwargs))
        found = function(*near_args, **near_kwargs)
        if comes or not (far or goes):
            return found
        known = {id(tensor.near): tensor for tensor in far}  # what is changed in place comes back as it was given

        def placed(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            return known[id(leaf)] if id(leaf) in known else Far(leaf)

        return tree_map(placed, found)

    @staticmethod
    def _waits(function: Any, args: Any, kwargs: Any, given: Any, far: Any, goes: bool, comes: bool) -> str | None:
        if function is ATEN._to_copy.default and (comes or (goes and not far)):
            return "fetched" if comes else None if kwargs.get("non_blocking") else "sent, and waited for"
        if not far:
            return None
        if function is ATEN.copy_.default and len(far) == 1:
            return (
                None if isinstance(args[0], Far) and (kwargs.get("non_blocking") or args[2:3] == (True,)) else "copied"
            )
        if function in READ:
            return "read"
        if function in INDEXING and any(
            isinstance(index, Far) and index.dtype == torch.bool for index in tree_leaves(args[1])
        ):
            return "read"
        mixed = [tensor for tensor in given if not isinstance(tensor, Far) and tensor.ndim]
        return "sent along, and waited for" if mixed else None


@contextmanager
def on_far_device(model: Any) -> Iterator[FarDevice]:
    """The model moved there, for good: give it one that nobody else uses."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FarDevice() as device:
            model.to(FAR)
            device.waits.clear()
            yield device
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def waits_of(device: FarDevice, work: Callable[[], Any]) -> list[str]:
    """What the work waits for."""
    device.waits.clear()
    work()
    return list(device.waits)
