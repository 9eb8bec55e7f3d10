"""The plan of a comparison. In: a YAML file. Out: a `Plan`, or one sentence on what in it cannot be meant.

    pool: {data: pool.json, images: images, source_field: task}   # or just a path
    test: test.json
    model: {model: checkpoints/stage-1, dtype: bfloat16}   # start of every training; scores too, without a `scorer`
    methods:
      - full
      - random
      - delta-attnmask
      - {name: half, signals: ["delta_attnmask:depth=0.5"], balance: auto}
      - {name: drops, signals: [trajectory=answer_loss], selector: "trajectories:clusters=50", snapshots: 4}
      - {name: oracle, ids: clean.txt}
    budgets: [5%, 20%]
    seeds: 5
    recipe: {name: llava-1.5, epochs: 4}
    schedule: [epochs, steps]
    augmentations: [{name: none}, {name: top-50, variant: top, probability: 0.5}]
    out: comparison

Paths are relative to the plan's folder. A bare value stands for a mapping with the first key alone, or for a list of
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from vlmsift.errors import UsageError
from vlmsift.parameters import Count, Parameters, Seed, check_value, make
from vlmsift.places import as_place
from vlmsift.specs import ModelSpec, PoolSpec

Schedule = Literal["epochs", "steps"]
FULL, RANDOM, NONE = "full", "random", "none"
BUILT_IN = (FULL, RANDOM)  # need no signals: everything, and a uniform draw that is new for each seed
BAND_SEEDS = 5  # fewest seeds of the random draw from which a band is told
_NAME = msgspec.Meta(pattern="^[A-Za-z0-9_][A-Za-z0-9._-]{0,59}$", title="letters, digits and . _ -, at most 60")
Name = Annotated[str, _NAME]
Budget = str | int
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Words = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Schedules = Annotated[tuple[Schedule, ...], msgspec.Meta(min_length=1)]
Seeds = Annotated[tuple[Seed, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class Arm(Parameters):
    """A line of the table: a name of the method table, a recipe written here, or ids that are drawn from.

    Attributes:
        signals: words as on the command line; config: a file that `calibrate` wrote, in their place.
        by, pick, balance: see `vlmsift.selectors.Top`; `by` is the first signal unless given.
        selector: a word such as "coincide:temperature=0.2", in their place.
        snapshots: score so many checkpoints of a fine-tune on the pool by the plan's recipe; 1 = its end.
        ids: a file of sample ids (one per line, or a JSON list): each seed draws from them uniformly ("oracle").
        budgets, augmentations: in place of the plan's own.
    """

    name: Name
    signals: Words | None = None
    config: str | None = None
    by: str | None = None
    pick: str | None = None
    balance: str | None = None
    selector: str | None = None
    snapshots: Count | None = None
    ids: str | None = None
    budgets: tuple[Budget, ...] | None = None
    augmentations: Words | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = [key for key in ("signals", "config", "ids") if getattr(self, key) is not None]
        if len(kinds) > 1:
            raise UsageError(f"{self.name} has {' and '.join(kinds)}: give one of them")
        if self.name in BUILT_IN and kinds:
            raise UsageError(f"{self.name!r} is built in: choose another name for a method of your own")
        how = [key for key in ("by", "pick", "balance", "selector", "snapshots") if getattr(self, key) is not None]
        if how and not (self.signals or self.config):
            raise UsageError(f"{self.name} has {how[0]} without signals or config: give the signals that it selects by")
        if self.selector and (twice := [key for key in how if key in ("by", "pick", "balance")]):
            raise UsageError(f"{self.name} has selector and {twice[0]}: write {twice[0]} into the selector's word")
        if self.name == FULL and self.budgets:
            raise UsageError("full has no budget: it is all samples")


@dataclass(frozen=True)
class Augmentation(Parameters):
    """Words for `vlmsift.augment.masked_states`, under a name; without any nothing is augmented."""

    name: Name
    words: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.words and "variant" not in self.words:
            raise UsageError(f"{self.name} has {next(iter(self.words))} but no variant, e.g. variant: top")
        if (not self.words) != (self.name == NONE):
            raise UsageError(f"{self.name}: {NONE!r} is the name of no augmentation; give any other a variant")


@dataclass(frozen=True)
class Imported(Parameters):
    """A run made elsewhere, judged by lmms-eval: its result files, where it stands in the table, what it took."""

    files: Words
    method: Name
    budget: Budget = "100%"
    seed: Seed = 0
    schedule: Schedule = "epochs"
    augmentation: Name = NONE
    samples: Count | None = None
    steps: Count | None = None
    training_seconds: Seconds | None = None
    selection_seconds: Seconds = 0.0


@dataclass(frozen=True)
class Plan(Parameters):
    """Methods x budgets x seeds x schedules x augmentations on one pool and one test set.

    Attributes:
        seeds: in a file also their number.
        recipe: a name, or `name` and changes, see `vlmsift.train.Recipe`.
        schedule: "epochs": each subset is seen as often; "steps": each training has the same optimiser steps, `steps`
            of them, or as many as the full pool takes.
        metrics: lmms-eval task -> metric, where the built-in table has none or another is wanted.
        tasks: which lmms-eval tasks are averaged; None = all that the files hold.
        redraw: choose by the cell's seed too; False = each method chooses once, by seed 0, and only trainings differ.
        keep_models: keep each cell's weights under `out`/models.
    """

    out: str
    pool: PoolSpec | None = None
    test: PoolSpec | None = None
    model: ModelSpec | None = None
    scorer: ModelSpec | None = None
    methods: tuple[Arm, ...] = ()
    budgets: tuple[Budget, ...] = ()
    seeds: Seeds = tuple(range(BAND_SEEDS))
    recipe: str | dict[str, Any] = "llava-1.5"
    schedule: Schedules = ("epochs",)
    steps: Count | None = None
    augmentations: tuple[Augmentation, ...] = (Augmentation(NONE),)
    imported: tuple[Imported, ...] = ()
    metrics: dict[str, str] = field(default_factory=dict)
    tasks: Words | None = None
    redraw: bool = False
    keep_models: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods and not self.imported:
            raise UsageError("there is nothing to compare: give methods, e.g. methods: [full, random, delta-attnmask]")
        if self.methods:
            if missing := [key for key in ("pool", "test", "model") if getattr(self, key) is None]:
                raise UsageError(f"methods need the key {missing[0]!r}: give {missing[0]}: PATH")
            if not self.budgets and any(arm.name != FULL and not arm.budgets for arm in self.methods):
                raise UsageError("methods need the key 'budgets': give e.g. budgets: [5%, 20%]")
        if self.steps is not None and "steps" not in self.schedule:
            raise UsageError(f"steps: {self.steps} is unused: give schedule: [epochs, steps]")
        known = [augmentation.name for augmentation in self.augmentations]
        once = {"methods": [arm.name for arm in self.methods], "augmentations": known}
        once |= {key: list(getattr(self, key)) for key in ("budgets", "seeds", "schedule")}
        for key, values in once.items():
            if twice := [value for place, value in enumerate(values) if value in values[:place]]:
                raise UsageError(f"{key} names {twice[0]!r} twice: name each once")
        for arm in self.methods:
            if unknown := [name for name in arm.augmentations or () if name not in known]:
                raise UsageError(f"{arm.name} asks for the augmentation {unknown[0]!r}: known are {', '.join(known)}")


def load_plan(path: str | Path) -> Plan:
    """Read and check a plan; its paths are made absolute. Raises UsageError quoting what cannot be meant."""
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the plan {path} cannot be read ({error.strerror}); give a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the plan {path} is not YAML: {' '.join(str(error).split())}; mend that place") from error
    if not isinstance(content, Mapping):
        raise UsageError(f"the plan {path} holds {content!r}, not keys such as pool:, test: and methods:")
    return make_plan(content, path.parent, f"the plan {path}")


def make_plan(content: Mapping[str, Any], folder: Path | None = None, called: str = "the plan") -> Plan:
    """A plan from a mapping; relative paths are taken from `folder`. Raises UsageError."""
    content = dict(content)
    if type(count := content.get("seeds")) is int:  # not True
        content["seeds"] = list(range(check_value(called, "seeds", count, Count)))
    if isinstance(entries := content.get("augmentations"), (list, tuple)):
        content["augmentations"] = [_with_words(entry) for entry in entries]
    plan = make(Plan, called, content)
    return plan if folder is None else _anchored(plan, folder.resolve())


def _with_words(augmentation: Any) -> Any:
    """An augmentation's mapping with all but its name gathered under `words`."""
    if not isinstance(augmentation, Mapping):
        return augmentation  # a bare name
    words = dict(augmentation)
    name = {"name": words.pop("name")} if "name" in words else {}
    return {**name, "words": words}


def _anchored(plan: Plan, folder: Path) -> Plan:
    """The plan with absolute paths, URLs as they are. A model that is no folder there is a hub name, and stays."""

    def at(value: str | Path) -> str:
        place = as_place(value)
        return str(folder / place if isinstance(place, Path) else place)

    def model(spec: ModelSpec | None) -> ModelSpec | None:
        return spec and replace(spec, model=at(spec.one) if Path(at(spec.one)).is_dir() else spec.one)

    def data(spec: PoolSpec | None) -> PoolSpec | None:
        return spec and replace(spec, data=at(spec.data), images=spec.images and at(spec.images))

    arms = (replace(arm, config=arm.config and at(arm.config), ids=arm.ids and at(arm.ids)) for arm in plan.methods)
    runs = (replace(run, files=tuple(map(at, run.files))) for run in plan.imported)
    specs: dict[str, Any] = {key: data(getattr(plan, key)) for key in ("pool", "test")}
    specs |= {key: model(getattr(plan, key)) for key in ("model", "scorer")}
    return replace(plan, out=at(plan.out), **specs, methods=tuple(arms), imported=tuple(runs))
