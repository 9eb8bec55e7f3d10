"""What a method is: signals, a selector, defaults, and what it asks for beyond a model and a pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmsift.selectors import Selector
    from vlmsift.types import Signal


@dataclass(frozen=True, slots=True)
class Training:
    """A fine-tune of the given model on the pool (see `vlmsift.train`), whose end is scored in the model's place."""

    snapshots: int  # checkpoints that are scored, evenly spaced, the last being the end; 1 = the end alone
    recipe: str = "llava-1.5"
    changes: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, recipe: str | None, changes: Mapping[str, Any] | None) -> Training:
        """With another recipe, whose own values then hold, and with single values changed."""
        kept = self.changes if recipe is None else {}
        return replace(self, recipe=recipe or self.recipe, changes={**kept, **(changes or {})})


@dataclass(frozen=True, slots=True)
class Method:
    """A recipe: what is measured, and how samples are chosen by it."""

    signals: tuple[str, ...] | Mapping[str, Signal]  # words as on the command line, or column -> signal
    selector: str | Selector  # a word such as "top:by=el2n", or a selector
    source: str  # where the method comes from
    about: str  # what it keeps, and where it differs from its source
    needs: str = ""  # what it asks for beyond a model and a pool, and what that costs; "" = nothing
    keep: str = "20%"  # unless another budget is asked for: a share, a count, or "clean" (see `vlmsift.select`)
    training: Training | None = None  # a fine-tune on the pool before; the user may bring its checkpoints instead
    called: str = ""  # its name in messages
    retrained: bool = False  # the user has changed its training

    def build_signals(self) -> dict[str, Signal]:
        """Column -> signal. Raises UsageError for a word that cannot be meant."""
        from vlmsift.signals import build_signals

        return dict(self.signals) if isinstance(self.signals, Mapping) else build_signals(self.signals)

    def build_selector(self) -> Selector:
        """The selector. Raises UsageError for a word that cannot be meant."""
        from vlmsift.selectors import build_selector

        return build_selector(self.selector) if isinstance(self.selector, str) else self.selector

    def forwards(self, depth: int) -> float:
        """Forwards per sample of the scored model, of L = `depth` layers, over all checkpoints; its training apart.

        At most, where the layers are only known once the model was looked at (AttentionInfluence's heads).
        """
        from vlmsift.signals import forwards

        return forwards(self.build_signals().values(), depth) * (self.training.snapshots if self.training else 1)

    @property
    def signal_words(self) -> tuple[str, ...]:
        """The signals, for people."""
        return tuple(self.signals)

    @property
    def selector_word(self) -> str:
        """The selector, for people."""
        from vlmsift.selectors import selector_word

        return self.selector if isinstance(self.selector, str) else selector_word(self.selector)
