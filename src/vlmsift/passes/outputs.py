"""What single modules of the decoder give out or are given, looked at during the first pass and reduced at once.

In: watchers that say which modules they look at. Out: their measurements. For what attention's own
function does not show: projections before the rotary positions, the output projection, the final norm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

from vlmsift.errors import UnsupportedModel
from vlmsift.models import Adapter
from vlmsift.passes.intervene import states_of
from vlmsift.passes.needs import Watcher


@contextmanager
def watched(watchers: Iterable[Watcher], name: str) -> Iterator[None]:
    """Hook the watchers' modules while one forward of the model `name` runs.

    Raises UnsupportedModel on leaving, if a module did not run: its code is bypassed, so nothing was seen of it.
    """
    waiting = set()

    def hook(watcher: Watcher, place: Any, module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
        waiting.discard(place)
        watcher.take(place[1], states_of(args, kwargs) if watcher.entering else output)  # (B, T, width)

    with ExitStack() as undo:
        for number, watcher in enumerate(watchers):
            for key, module in watcher.modules.items():
                waiting.add((number, key))
                register = module.register_forward_pre_hook if watcher.entering else module.register_forward_hook
                undo.callback(register(partial(hook, watcher, (number, key)), with_kwargs=True).remove)
        yield
    if waiting:
        raise UnsupportedModel(
            f"{name}: its forward does not run the modules {sorted(str(key) for _, key in waiting)}, so what they give "
            "out cannot be measured"
        )


def projection(adapter: Adapter, layer: int, name: str) -> nn.Module:
    """The module called `name` ("q_proj", "k_proj", "o_proj") in a text layer's attention.

    Raises UnsupportedModel where the layer has none of that name, or several.
    """
    found = [module for path, module in adapter.layers[layer].named_modules() if path.rpartition(".")[2] == name]
    if len(found) != 1:
        raise UnsupportedModel(
            f"{adapter.name}: text layer {layer} ({type(adapter.layers[layer]).__name__}) has {len(found)} modules "
            f"called {name!r} where one is needed; this measurement cannot be had from this model"
        )
    module: nn.Module = found[0]
    return module
