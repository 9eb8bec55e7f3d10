"""The table of methods for people. In: `METHODS`. Out: text on the terminal, or the Markdown of docs/methods.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlmsift.methods import METHODS, Method
from vlmsift.methods.tuning import to_score

LAYERS = 32
"""Of the decoder that forwards are counted for, as the models of 7 billion parameters have."""
HEAD = ("method", "signals", "forwards", "needs", "source")


def _row(name: str, method: Method, mark: str = "") -> tuple[str, ...]:
    signals = ", ".join(f"{mark}{word}{mark}" for word in method.signal_words) or "none"
    return (
        f"{mark}{name}{mark}",
        signals,
        f"{method.forwards(LAYERS):.4g}",
        method.needs or "nothing more",
        method.source,
    )


def show_methods(methods: Mapping[str, Method] = METHODS) -> None:
    """One row per method: name, signals, forwards per sample, what else it needs, source."""
    console = Console(highlight=False, width=max(Console().width, 160))
    table = Table(box=box.SIMPLE_HEAD, show_lines=True)
    for column in HEAD:
        table.add_column(column, overflow="fold")
    for name, method in methods.items():
        table.add_row(*map(escape, _row(name, method)))
    console.print(table)
    console.print(
        f"forwards: of the scored model per sample, of {LAYERS} layers, over all checkpoints. Run one with vlmsift "
        "sift POOL --model MODEL --method NAME; docs/methods.md says what each keeps",
        soft_wrap=True,
    )


def tell_needs(method: Method, models: Any, trained: bool) -> None:
    """Before it begins: what a method asks for beyond a model and a pool, unless it was brought.

    Raises:
        UsageError: models that cannot be what it needs.
    """
    _, tunes = to_score(method.called, method, models, trained)
    if method.needs and (method.training is None or tunes):
        Console(stderr=True, highlight=False, soft_wrap=True).print(escape(f"{method.called} needs {method.needs}"))


def methods_markdown(methods: Mapping[str, Method] = METHODS) -> str:
    """The same with what each method keeps, as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(_row(name, method, '`'))} |" for name, method in methods.items()]
    for name, method in methods.items():
        word = f"`--selector {method.selector_word}`, `--keep {method.keep}`"
        lines += ["", f"**{name}** ({word}). {method.about}"]
    return "\n".join(lines) + "\n"
