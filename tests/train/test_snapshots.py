"""Snapshots: the same training with them and without, the last equals the end, and none is ever half."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.train.helpers import encoded, names, quick, same, weights
from tests.train.test_lora import LORA
from vlmsift.augment import context_of
from vlmsift.demo import START_PATH
from vlmsift.demo.pool import make_pool
from vlmsift.errors import RunMismatch, UsageError
from vlmsift.models import open_model
from vlmsift.models.silence_transformers import silence_transformers
from vlmsift.train import record
from vlmsift.train.parts import prepare
from vlmsift.train.recipes import Recipe
from vlmsift.train.saving import Writer
from vlmsift.train.snapshots import evenly_spaced

FEW = {"epochs": 3, "snapshots": 3}
"""Eight steps, snapshots after 3, 5 and 8."""


@pytest.fixture(scope="module")
def half(toy, tmp_path_factory) -> Path:
    """The toy in bfloat16."""
    folder = tmp_path_factory.mktemp("half") / "toy"
    shutil.copytree(toy, folder)
    AutoModelForImageTextToText.from_pretrained(toy, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def made(out: Path) -> list[str]:
    return [path.name for path in record.snapshots_in(out)]


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but the record and the adapter of LoRA."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != record.RECORD}


@pytest.mark.parametrize(
    ("count", "steps", "expected"),
    [(0, 5, ()), (1, 5, (5,)), (3, 8, (3, 5, 8)), (4, 8, (2, 4, 6, 8)), (5, 5, (1, 2, 3, 4, 5)), (9, 2, (1, 2))],
)
def test_when_they_are_due(count, steps, expected):
    assert evenly_spaced(count, steps) == expected


def test_there_are_as_many_as_asked_for():
    for steps in range(1, 40):
        for count in range(1, steps + 1):
            due = evenly_spaced(count, steps)
            assert (len(set(due)), due[-1], list(due)) == (count, steps, sorted(due))


@pytest.mark.parametrize("how", [{}, {**LORA, "lora_dropout": 0.2}], ids=["full", "lora"])
@pytest.mark.parametrize("model", ["toy", "half"])
def test_they_change_nothing_and_the_last_is_the_end(model, how, data, request, tmp_path):
    """With what hangs itself on the model: checkpointed activations and an augmentation."""
    folder = request.getfixturevalue(model)
    how = {**how, "gradient_checkpointing": True, "context": context_of("top:depth=0.5", 1.0, 0)}
    plain = quick(data, folder, tmp_path / "plain", epochs=3, **how)
    with_them = quick(data, folder, tmp_path / "out", **FEW, **how)
    assert with_them.losses == plain.losses
    assert same(tmp_path / "plain", tmp_path / "out")
    assert files(tmp_path / "plain") == files(tmp_path / "out")
    assert with_them.snapshots == tuple(tmp_path / "out/snapshots" / name for name in ("step-3", "step-5", "step-8"))
    assert files(with_them.snapshots[-1]) == files(tmp_path / "out")
    assert {value.dtype for value in weights(with_them.snapshots[0]).values()} == {open_model(folder).model.dtype}
    assert not same(*with_them.snapshots[:2])
    assert not (tmp_path / "out/snapshots/step-3/adapter").exists()
    assert plain.snapshots == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "plain"]


@pytest.mark.parametrize("lora", [False, True])
def test_a_snapshot_is_the_training_that_ended_there(lora, data, toy, tmp_path):
    """A rate that does not settle and whole epochs: the first of two is as if it were the only one."""
    how = {"schedule": "constant", "batch_size": 5, **(LORA if lora else {})}
    long = quick(data, toy, tmp_path / "long", epochs=2, snapshots=2, **how)
    quick(data, toy, tmp_path / "short", epochs=1, **how)
    assert same(long.snapshots[0], tmp_path / "short")


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", ["gemma3", "qwen2_5_vl"])
def test_they_open_like_the_model(family, lora, toy_path, pool_path, tmp_path):
    """Gemma 3 publishes other names than it has in memory, and ties its head; no weight is missing or unknown."""
    model = toy_path(family)
    done = quick(encoded(pool_path, model), model, tmp_path / "out", **(LORA if lora else {}), snapshots=2)
    for folder in done.snapshots:
        assert weights(folder).keys() == weights(model).keys()
        _, told = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
        assert {what: list(found) for what, found in told.items() if found} == {}
        assert open_model(folder, device="cpu").depth == open_model(model, device="cpu").depth
    assert files(done.snapshots[-1]) == files(tmp_path / "out")


def test_the_embedded_model(tmp_path):
    pool = make_pool(tmp_path / "pool", size=20, seed=1)
    done = quick(pool, START_PATH, tmp_path / "out", steps=3, snapshots=7)
    assert made(tmp_path / "out") == ["step-1", "step-2", "step-3"]
    assert same(done.snapshots[-1], tmp_path / "out")
    assert open_model(done.snapshots[0]).depth == open_model(START_PATH).depth


def test_lora_in_half_precision_is_added_as_peft_adds_it(toy):
    """What a GPU trains: weights in bfloat16, LoRA in float32."""
    adapter = open_model(toy, device="cpu", dtype="bfloat16")
    writer = Writer(adapter)
    with silence_transformers():
        model = prepare(adapter, Recipe(lora=4), half=True).model
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.normal_(0.0, 0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ours = writer.weights()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    theirs = model.merge_and_unload().to(torch.bfloat16).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) and value.dtype == torch.bfloat16 for name, value in ours.items())
    assert names(ours, "lora_") | names(ours, "modules_to_save") | names(ours, "base_layer") == set()


def test_tied_weights_stay_tied_in_another_precision(toy_path, tmp_path):
    """Gemma 3's head is its embedding: once in memory, once on disk."""
    adapter = open_model(toy_path("gemma3"), device="cpu", dtype="bfloat16")
    writer = Writer(adapter)
    adapter.model.float()
    writer(tmp_path / "out")
    saved = weights(tmp_path / "out")
    assert saved.keys() == weights(toy_path("gemma3")).keys()
    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    assert {value.dtype for value in adapter.model.parameters()} == {torch.float32}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"


def test_a_finished_training_has_them_and_another_number_is_refused(data, toy, tmp_path):
    first = quick(data, toy, tmp_path / "out", **FEW)
    assert quick(data, toy, tmp_path / "out", **FEW) == first
    with pytest.raises(RunMismatch, match="snapshots: in the training 3, asked for 2"):
        quick(data, toy, tmp_path / "out", epochs=3, snapshots=2)
    assert quick(data, toy, tmp_path / "out", epochs=3, resume=False).snapshots == ()
    assert not (tmp_path / "out/snapshots").exists()


def test_a_record_from_before_snapshots_is_one_without(data, toy, tmp_path):
    quick(data, toy, tmp_path / "out")
    old = json.loads((tmp_path / "out/train.json").read_text())
    del old["identity"]["snapshots"]
    (tmp_path / "out/train.json").write_text(json.dumps(old))
    assert quick(data, toy, tmp_path / "out").snapshots == ()
    with pytest.raises(RunMismatch, match="snapshots: in the training nothing, asked for 3"):
        quick(data, toy, tmp_path / "out", snapshots=3)


@pytest.mark.parametrize("how", [{}, LORA], ids=["full", "lora"])
def test_a_resumed_training_ends_with_the_same(how, data, toy, tmp_path):
    """Stopped after 6 of 8 steps, of which 4 are in the checkpoint: step-3 is kept, step-5 made again."""

    def stop(step, steps, loss):
        if step == 6:
            raise KeyboardInterrupt

    run = partial(quick, data, toy, **FEW, **how, checkpoints=4)
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", progress=stop)
    begun = tmp_path / ".out.work"
    assert made(begun) == ["step-3", "step-5"]
    (begun / "snapshots/step-5/left from the lost part").touch()
    (begun / "snapshots/.step-8.1.tmp").mkdir()
    stamp = (begun / "snapshots/step-3/model.safetensors").stat().st_mtime_ns
    run(tmp_path / "out")
    assert made(tmp_path / "out") == made(tmp_path / "whole")
    assert (tmp_path / "out/snapshots/step-3/model.safetensors").stat().st_mtime_ns == stamp
    for name in (".", *(f"snapshots/{name}" for name in made(tmp_path / "whole"))):
        assert files(tmp_path / "out" / name) == files(tmp_path / "whole" / name)
    assert len(list((tmp_path / "out/snapshots").iterdir())) == 3


def test_a_full_disk_leaves_no_half_one(data, toy, tmp_path, monkeypatch):
    """What lies there is whole, and the same command goes on; the fourth write is that of the model itself."""
    whole = quick(data, toy, tmp_path / "whole", **FEW, checkpoints=1)
    real = Writer.__call__
    for failing in (1, 3):
        calls = iter(range(9))

        def write(self, folder, failing=failing, calls=calls):
            real(self, folder)
            if next(calls) == failing:
                (folder / "model.safetensors").write_bytes(b"half")
                raise OSError("No space left on device")

        out = tmp_path / f"out{failing}"
        monkeypatch.setattr(Writer, "__call__", write)
        with pytest.raises(OSError, match="No space left"):
            quick(data, toy, out, **FEW, checkpoints=1)
        monkeypatch.setattr(Writer, "__call__", real)
        assert not out.exists()
        lying = sorted((tmp_path / f".out{failing}.work/snapshots").glob("*"))
        assert [path.name for path in lying] == ["step-3", "step-5", "step-8"][:failing]
        done = quick(data, toy, out, **FEW, checkpoints=1)
        assert [files(path) for path in done.snapshots] == [files(path) for path in whole.snapshots]
    assert not list(tmp_path.glob(".*"))


def test_a_checkpoint_without_the_snapshots_before_it_does_not_count(data, toy, tmp_path):
    def stop(step, steps, loss):
        told.append(step)
        if step == 6 and len(told) == 6:
            raise KeyboardInterrupt

    told: list[int] = []
    run = partial(quick, data, toy, tmp_path / "out", **FEW, checkpoints=4, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    shutil.rmtree(tmp_path / ".out.work/snapshots/step-3")
    run()
    assert told == [*range(1, 7), *range(1, 9)]
    assert made(tmp_path / "out") == ["step-3", "step-5", "step-8"]


def test_a_training_that_breaks_off_has_its_end(data, toy, tmp_path):
    @contextmanager
    def poisoned(model):
        with torch.no_grad():
            model.get_output_embeddings().weight[0] = float("nan")
        yield

    done = quick(data, toy, tmp_path / "out", steps=6, snapshots=2, context=poisoned)
    assert (done.steps, made(tmp_path / "out")) == (1, ["step-1"])


@pytest.mark.parametrize("snapshots", [-1, 2.0, True, "3", None])
def test_a_number_that_cannot_be_meant(snapshots, data, toy, tmp_path):
    with pytest.raises(UsageError, match=rf"snapshots={snapshots!r} must be a whole number, 0 or more"):
        quick(data, toy, tmp_path / "out", snapshots=snapshots)
    assert not list(tmp_path.iterdir())
