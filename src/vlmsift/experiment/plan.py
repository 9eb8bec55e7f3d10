"""The plan of a comparison. In: a YAML file. Out: a `Plan`, or one sentence on what in it cannot be meant.

    pool: {data: pool.json, images: images, source_field: task}   # or just a path
    test: test.json
    model: checkpoints/stage-1      # start of every training; scores the pool too, unless `scorer` is given
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

Paths are relative to the plan's folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from vlmsift.errors import MissingExtra, UsageError

try:
    import filelock  # noqa: F401  scoring needs it; told before anything is loaded
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
except ImportError as error:
    raise MissingExtra(f"comparing methods needs {error.name}: pip install 'vlmsift[train]'") from error

Schedule = Literal["epochs", "steps"]
FULL, RANDOM, NONE = "full", "random", "none"
BUILT_IN = (FULL, RANDOM)
"""Methods that need no signals: everything, and a uniform draw that is new for each seed."""
BAND_SEEDS = 5
"""Fewest seeds of the random draw from which a band is told."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,59}")


def _name(value: Any) -> Any:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("a name has letters, digits and . _ -, at most 60")
    return value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _seeds(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = list(range(value))
    if isinstance(value, list) and not value:
        raise ValueError("give a count such as 5, or a list such as [0, 1, 2]")
    return value


def _under(key: str) -> BeforeValidator:
    """A bare value stands for a mapping with that key alone."""
    return BeforeValidator(lambda value: value if isinstance(value, Mapping) else {key: value})


Name = Annotated[str, BeforeValidator(_name)]
Budget = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
Count = Annotated[int, Field(ge=1, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Part(BaseModel):
    """Base of every part of a plan: unknown keys are errors, values are fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Part):
    """A data set as `open_pool` takes it."""

    data: str
    images: str | None = None
    format: str | None = None
    source_field: str | None = None


class Method(Part):
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
    signals: list[str] | None = Field(None, min_length=1)
    config: str | None = None
    by: str | None = None
    pick: str | None = None
    balance: str | None = None
    selector: str | None = None
    snapshots: Count | None = None
    ids: str | None = None
    budgets: list[Budget] | None = Field(None, min_length=1)
    augmentations: list[str] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Method:
        kinds = [key for key in ("signals", "config", "ids") if getattr(self, key) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{self.name} has {' and '.join(kinds)}: give one of them")
        if self.name in BUILT_IN and kinds:
            raise ValueError(f"{self.name!r} is built in: choose another name for a method of your own")
        how = [key for key in ("by", "pick", "balance", "selector", "snapshots") if getattr(self, key) is not None]
        if how and not (self.signals or self.config):
            raise ValueError(f"{self.name} has {how[0]} without signals or config: give the signals that it selects by")
        if self.selector and (twice := [key for key in how if key in ("by", "pick", "balance")]):
            raise ValueError(f"{self.name} has selector and {twice[0]}: write {twice[0]} into the selector's word")
        if self.name == FULL and self.budgets:
            raise ValueError("full has no budget: it is all samples")
        return self


class Augmentation(Part):
    """Words for `vlmsift.augment.masked_states`, under a name; without a variant nothing is augmented."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: Name
    variant: str | None = None

    @property
    def words(self) -> dict[str, Any]:
        """Arguments of `masked_states`; empty where nothing is augmented."""
        return {} if self.variant is None else {"variant": self.variant, **(self.model_extra or {})}

    @model_validator(mode="after")
    def _has_variant(self) -> Augmentation:
        if self.variant is None and self.model_extra:
            raise ValueError(f"{self.name} has {next(iter(self.model_extra))} but no variant, e.g. variant: top")
        if (self.variant is None) != (self.name == NONE):
            raise ValueError(f"{self.name}: {NONE!r} is the name of no augmentation; give any other a variant")
        return self


class Imported(Part):
    """A run made elsewhere, judged by lmms-eval: its result files, and where it stands in the table.

    Attributes:
        samples, steps, training_seconds, selection_seconds: as far as known.
    """

    files: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
    method: Name
    budget: Budget = "100%"
    seed: Seed = 0
    schedule: Schedule = "epochs"
    augmentation: Name = NONE
    samples: Count | None = None
    steps: Count | None = None
    training_seconds: Seconds | None = None
    selection_seconds: Seconds = 0.0


class Plan(Part):
    """Methods x budgets x seeds x schedules x augmentations on one pool and one test set.

    Attributes:
        recipe: `name` and changes, see `vlmsift.train.Recipe`.
        schedule: "epochs": each subset is seen as often; "steps": each training has the same optimiser steps, `steps`
            of them, or as many as the full pool takes.
        metrics: lmms-eval task -> metric, where the built-in table has none or another is wanted.
        tasks: which lmms-eval tasks are averaged; None = all that the files hold.
        redraw: choose by the cell's seed too; False = each method chooses once, by seed 0, and only trainings differ.
        keep_models: keep each cell's weights under `out`/models.
    """

    out: str
    pool: Annotated[Data, _under("data")] | None = None
    test: Annotated[Data, _under("data")] | None = None
    model: str | None = None
    scorer: str | None = None
    methods: list[Annotated[Method, _under("name")]] = []
    budgets: Annotated[list[Budget], BeforeValidator(_listed)] = []
    seeds: Annotated[list[Seed], BeforeValidator(_seeds)] = list(range(BAND_SEEDS))
    recipe: Annotated[dict[str, Any], _under("name")] = {"name": "llava-1.5"}
    schedule: Annotated[list[Schedule], BeforeValidator(_listed), Field(min_length=1)] = ["epochs"]
    steps: Count | None = None
    augmentations: list[Annotated[Augmentation, _under("name")]] = [Augmentation(name=NONE)]
    imported: list[Imported] = []
    metrics: dict[str, str] = {}
    tasks: list[str] | None = Field(None, min_length=1)
    redraw: bool = False
    keep_models: bool = False
    device: str = "auto"
    dtype: str = "auto"

    @model_validator(mode="after")
    def _whole(self) -> Plan:
        if not self.methods and not self.imported:
            raise ValueError("there is nothing to compare: give methods, e.g. methods: [full, random, delta-attnmask]")
        if self.methods:
            for key in ("pool", "test", "model"):
                if getattr(self, key) is None:
                    raise ValueError(f"methods need the key {key!r}: give {key}: PATH")
            if not self.budgets and any(one.name != FULL and not one.budgets for one in self.methods):
                raise ValueError("methods need the key 'budgets': give e.g. budgets: [5%, 20%]")
        if self.steps is not None and "steps" not in self.schedule:
            raise ValueError(f"steps: {self.steps} is unused: give schedule: [epochs, steps]")
        for key, names in (
            ("methods", [one.name for one in self.methods]),
            ("augmentations", [one.name for one in self.augmentations]),
            ("budgets", self.budgets),
            ("seeds", self.seeds),
            ("schedule", self.schedule),
        ):
            values = cast("list[Any]", names)
            if twice := [value for place, value in enumerate(values) if value in values[:place]]:
                raise ValueError(f"{key} names {twice[0]!r} twice: name each once")
        known = [one.name for one in self.augmentations]
        for one in self.methods:
            if unknown := [name for name in one.augmentations or [] if name not in known]:
                raise ValueError(f"{one.name} asks for the augmentation {unknown[0]!r}: known are {', '.join(known)}")
        return self


_PARTS: dict[str, type[Part]] = {
    "pool": Data,
    "test": Data,
    "methods": Method,
    "augmentations": Augmentation,
    "imported": Imported,
}


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


def make_plan(content: Mapping[Any, Any], folder: Path | None = None, called: str = "the plan") -> Plan:
    """A plan from a mapping; relative paths are taken from `folder`. Raises UsageError."""
    try:
        plan = Plan.model_validate(dict(content))
    except ValidationError as error:
        raise UsageError(f"{called}: {_sentence(error)}") from error
    return plan if folder is None else _anchored(plan, folder.resolve())


def _sentence(error: ValidationError) -> str:
    """The first fault as one sentence that quotes the value and names the cure."""
    fault = error.errors(include_url=False)[0]
    place, key = ".".join(map(str, fault["loc"])), str(fault["loc"][-1]) if fault["loc"] else ""
    owner = _PARTS.get(str(fault["loc"][0]), Plan) if len(fault["loc"]) > 1 else Plan
    if fault["type"] == "extra_forbidden":
        where = f"{place.rpartition('.')[0]} has" if "." in place else "it has"
        return f"{where} an unknown key {key!r}; known are {', '.join(owner.model_fields)}"
    if fault["type"] == "missing":
        where = f" in {place.rpartition('.')[0]}" if "." in place else ""
        return f"the key {key!r} is missing{where}; add it"
    said = fault["msg"].removeprefix("Value error, ")
    if not place:
        return said
    shown = repr(fault["input"])
    return f"{place}: {shown if len(shown) <= 80 else shown[:77] + '...'} cannot be meant; {said[0].lower()}{said[1:]}"


def _anchored(plan: Plan, folder: Path) -> Plan:
    """The plan with absolute paths. A model that is no folder there is a hub name, and stays."""

    def at(value: str | None) -> str | None:
        return None if value is None else str(folder / Path(value).expanduser())

    def model(value: str | None) -> str | None:
        return at(value) if value is not None and Path(str(at(value))).is_dir() else value

    def data(value: Data | None) -> Data | None:
        return value and value.model_copy(update={"data": at(value.data), "images": at(value.images)})

    methods = [one.model_copy(update={"config": at(one.config), "ids": at(one.ids)}) for one in plan.methods]
    imported = [one.model_copy(update={"files": [at(file) for file in one.files]}) for one in plan.imported]
    changed = {"out": at(plan.out), "pool": data(plan.pool), "test": data(plan.test), "methods": methods}
    return plan.model_copy(
        update={**changed, "imported": imported, "model": model(plan.model), "scorer": model(plan.scorer)}
    )
