"""How many forwards of any module a piece of work takes: what is refused early takes none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def counted_forwards() -> Iterator[list[str]]:
    """The classes of the modules that are called inside, one entry per call."""
    called: list[str] = []
    handle = register_module_forward_pre_hook(lambda module, args: called.append(type(module).__name__))
    try:
        yield called
    finally:
        handle.remove()
