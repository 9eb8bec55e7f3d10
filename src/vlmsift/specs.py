"""What a user says of a pool, of a model, and of how to compute: each option declared once, for Python and the shell.

In: values as typed. Out: frozen specs, checked when they are made. Nothing is opened here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from vlmsift.errors import UsageError
from vlmsift.parameters import Count, Natural, Parameters

Device = Annotated[str, Meta(description="auto, cpu, cuda, cuda:1, or spread over all devices.")]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class PoolSpec(Parameters):
    """A data set on disk or in a store, as `vlmsift.open_pool` opens it."""

    name: ClassVar[str] = "pool"
    data: Annotated[
        str | Path,
        Meta(description="Data, a path or URL: .json, .jsonl, .parquet, .tar, a folder of parts, a saved data set."),
    ]
    images: Annotated[
        str | Path | None, Meta(description="Folder or URL that image paths are relative to (default: the data's).")
    ] = None
    format: Annotated[str | None, Meta(description="The data's: llava, messages or sharegpt (default: guessed).")] = (
        None
    )
    source_field: Annotated[str | None, Meta(description="Key of a row that names its source or task.")] = None


@dataclass(frozen=True)
class ModelSpec(Parameters):
    """A model on disk or on the hub, as `vlmsift.open_model` opens it; several are checkpoints of one training."""

    name: ClassVar[str] = "model"
    model: Annotated[
        str | Path | Sequence[str | Path],
        Meta(
            description="Model folder, or name on the Hugging Face hub. Where checkpoints are followed: repeated, in "
            "order, or a folder of step-N or checkpoint-N folders."
        ),
    ] = field(metadata={"flags": ("--model", "-m")})
    revision: Annotated[str | None, Meta(description="Branch, tag or commit of the model.")] = None
    device: Device = "auto"
    dtype: Annotated[Dtype, Meta(description="auto (the checkpoint's own), float32, bfloat16 or float16.")] = "auto"
    chat_template: Annotated[
        str | Path | None,
        Meta(description="Jinja chat template in place of the model's: a file, or the text itself."),
    ] = None
    trust_remote_code: Annotated[bool, Meta(description="Run code that the model brings along.")] = False

    @property
    def one(self) -> str | Path:
        """The model, where only one can be meant. Raises UsageError for several."""
        if isinstance(self.model, (str, Path)):
            return self.model
        if len(self.model) != 1:
            raise UsageError(f"{len(self.model)} models are given where one is meant; name one")
        return self.model[0]

    @property
    def template(self) -> str | None:
        """The chat template's text. Raises UsageError where its file cannot be read."""
        if self.chat_template is None:
            return None
        if "{" in str(self.chat_template):
            return str(self.chat_template)
        try:
            return Path(self.chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the chat template {str(self.chat_template)!r} cannot be read: {error}") from error


@dataclass(frozen=True)
class EngineSpec(Parameters):
    """How the work is cut and shared; it changes no number beyond rounding, and who does it changes none at all."""

    name: ClassVar[str] = "engine"
    tokens_per_batch: Annotated[
        Count | None,
        Meta(
            description="Tokens per batch; halved by itself when memory runs out (default: 8192, on a CPU 2048: larger "
            "ones are slower there)."
        ),
    ] = None
    workers: Annotated[
        Natural | None,
        Meta(description="Processes that read and encode; 0 = none beside this (default: cores - 1, at most 8)."),
    ] = None
    part_size: Annotated[
        Count | None,
        Meta(
            description="Rows per file of signals; a stopped run loses at most one file's work (default: 512, in a "
            "pool of over a million rows 4096)."
        ),
    ] = None
    devices: Annotated[
        str | None, Meta(description="Share the work between devices, a process for each: 0,1,2,3 (GPUs), or cpu,cpu.")
    ] = None
    shard: Annotated[
        str | None,
        Meta(
            description="i/n: begin with every n-th file from the i-th, then take what others have left (default: as "
            "torchrun, Slurm or SkyPilot say; see docs/scale.md)."
        ),
    ] = None
    engine: Annotated[
        Literal["processes", "ray"], Meta(description="processes, or ray: one actor per GPU of a cluster.")
    ] = "processes"
    address: Annotated[str | None, Meta(description="Ray cluster (default: RAY_ADDRESS, or one on this machine).")] = (
        None
    )
    actors: Annotated[Count | None, Meta(description="Ray actors (default: one per GPU).")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is not None:
            parse_shard(self.shard)
        if self.devices is not None:
            self.device_names()
        for name in ("address", "actors"):
            if getattr(self, name) is not None and self.engine != "ray":
                raise UsageError(f"{name}={getattr(self, name)!r} is for Ray; give engine ray as well")
        if self.engine == "ray" and (self.devices or self.shard):
            given = f"devices={self.devices!r}" if self.devices else f"shard={self.shard!r}"
            raise UsageError(f"{given} cannot be meant with engine ray, which shares the work itself; leave one out")

    def rows_per_part(self, rows: int) -> int:
        """`part_size`, or what a pool of so many `rows` takes: more rows are not to mean a hundred thousand files."""
        return self.part_size or (512 if rows <= 1_000_000 else 4096)

    def budget(self, device: str) -> int:
        """Tokens per batch on a type of device, such as "cpu"."""
        return self.tokens_per_batch or (2048 if device == "cpu" else 8192)

    def device_names(self) -> list[str]:
        """`devices` as torch names them; empty where none are given."""
        words = [word.strip() for word in (self.devices or "").split(",")] if self.devices is not None else []
        for word in words:
            if not (word.isdecimal() or word == "cpu" or (word.startswith("cuda:") and word[5:].isdecimal())):
                told = f"devices={self.devices!r} cannot be meant ({word!r})"
                raise UsageError(f"{told}; give GPUs by number, as 0,1,2,3, or cpu,cpu")
        return [f"cuda:{word}" if word.isdecimal() else word for word in words]

    @property
    def spreads(self) -> bool:
        """Whether processes of their own measure, and not this one."""
        return self.devices is not None or self.engine == "ray"

    def alone(self) -> EngineSpec:
        """The same for work that only one process does."""
        return replace(self, devices=None, shard="0/1", engine="processes", address=None, actors=None)

    def check_alone(self, verb: str) -> None:
        """Raise UsageError where the work of a verb that one process does is to be shared."""
        for name, plain in (("devices", None), ("shard", None), ("engine", "processes")):
            if (value := getattr(self, name)) != plain:
                told = f"{verb} measures in one process, so {name}={value!r} means nothing"
                raise UsageError(f"{told}; leave it out, or score on many devices first")


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n", 0 <= i < n. Raises UsageError."""
    first, slash, count = text.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise UsageError(f"shard={text!r} cannot be meant; give i/n with 0 <= i < n, such as 0/2 and 1/2")
    return int(first), int(count)


def as_spec(cls: Any, value: Any) -> Any:
    """A bare path or name (or several models) as a spec; a spec, or what is open already, stays.

    A mapping, as a plan has it, gives the fields.
    """
    if isinstance(value, Mapping):
        from vlmsift.parameters import make

        return make(cls, cls.name, value)
    return cls(value) if isinstance(value, (str, Path, list, tuple)) else value
