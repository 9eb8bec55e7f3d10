"""Training as a whole: it learns, it is the same twice, its loss does not depend on how a step is cut."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from tests.sample_pools import llava_rows, write_pool
from tests.specs import with_specs
from tests.train.helpers import changed, encoded, furthest, names, quick, same, weights
from vlmsift.errors import MissingExtra, RunMismatch, UsageError
from vlmsift.evaluate import evaluate
from vlmsift.models import open_model
from vlmsift.pools import open_image, open_pool
from vlmsift.specs import ModelSpec
from vlmsift.train.data import EncodedData


def test_it_memorises_a_handful(data, toy, tmp_path):
    few = data.subset(["r0", "r1", "r2", "r3"])
    before = evaluate(ModelSpec(toy, dtype="float32"), few)["all"]
    done = quick(few, toy, tmp_path / "out", steps=25, learning_rate=5e-3)
    after = evaluate(done.folder, few)["all"]
    assert done.losses[0] == pytest.approx(_token_mean(toy, few), abs=1e-4)
    assert after.loss < 0.3 * before.loss
    assert (before.exact, after.exact >= 0.5) == (0.0, True)
    assert done.loss < 0.5 * done.losses[0]
    assert (done.samples, done.steps, done.diverged) == (4, 25, False)


def _token_mean(folder, data) -> float:
    """The mean loss over all supervised tokens, by the model's own forward on one sample at a time."""
    adapter = open_model(ModelSpec(folder, device="cpu", dtype="float32"))
    total, count = 0.0, 0
    for place in range(len(data)):
        batch = data.encoder.collate([data[place]])
        tokens = int(batch.query_mask.sum())
        with torch.no_grad():
            total += float(adapter.model(**batch.inputs, labels=batch.labels).loss) * tokens
        count += tokens
    return total / count


def test_the_same_seed_gives_the_same_weights(data, toy, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        quick(data, toy, tmp_path / name, seed=seed)
    assert same(tmp_path / "one", tmp_path / "two")
    assert not same(tmp_path / "one", tmp_path / "three")


def test_the_caller_keeps_its_randomness(data, toy, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    quick(data, toy, tmp_path / "out", steps=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("micro_batch", [1, 2])
@pytest.mark.parametrize("family", ["llava", "gemma3", "paligemma"])
def test_accumulation_equals_one_big_batch(family, micro_batch, data, toy_path, pool_path, tmp_path):
    """Gemma 3 and PaliGemma say that they take no count of tokens; they get it all the same."""
    model = toy_path(family)
    own = data if family == "llava" else encoded(pool_path, model)
    text_only = {"r3", "r7"}
    own = own.subset([name for name in own.ids if name not in text_only])
    big = quick(own, model, tmp_path / "big", micro_batch=4)
    cut = quick(own, model, tmp_path / "cut", micro_batch=micro_batch)
    assert cut.losses == pytest.approx(big.losses, abs=1e-5)
    assert furthest(tmp_path / "big", tmp_path / "cut") < 2e-4  # Adam's first steps turn rounding into +-rate


def test_checkpointing_activations_changes_nothing(data, toy, tmp_path):
    quick(data, toy, tmp_path / "plain")
    quick(data, toy, tmp_path / "checkpointed", gradient_checkpointing=True)
    assert furthest(tmp_path / "plain", tmp_path / "checkpointed") < 1e-6


@pytest.mark.parametrize(("count", "steps"), [(3, 6), (4, 6), (9, 6)])
def test_every_step_has_as_many_samples_whatever_the_subset(count, steps, data, toy, tmp_path):
    part = data.subset(data.ids[:count])
    sizes = []

    @contextmanager
    def watched(model):
        hook = model.register_forward_pre_hook(
            lambda module, args, kwargs: sizes.append(kwargs["input_ids"].shape[0]), with_kwargs=True
        )
        yield
        hook.remove()

    done = quick(part, toy, tmp_path / "out", steps=steps, micro_batch=2, context=watched)
    assert (done.steps, sizes) == (steps, [2] * 2 * steps)


def test_epochs_see_each_sample_as_often(data, toy, tmp_path):
    seen = []

    @contextmanager
    def watched(model):
        hook = model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.extend(int(number) for number in kwargs["attention_mask"].sum(1)),
            with_kwargs=True,
        )
        yield
        hook.remove()

    done = quick(data, toy, tmp_path / "out", epochs=2, context=watched)
    assert done.steps == 5
    assert sorted(seen) == sorted([*data.lengths, *data.lengths])


def test_frozen_parts_do_not_change_by_a_bit(data, toy, tmp_path):
    quick(data, toy, tmp_path / "both")
    quick(data, toy, tmp_path / "projector", train=("projector",))
    quick(data, toy, tmp_path / "vision", train="vision")
    both = changed(tmp_path / "both", toy)
    assert not names(both, "vision_tower")
    assert names(both, "projector")
    assert names(both, "lm_head")
    assert changed(tmp_path / "projector", toy) == names(weights(toy), "projector")
    assert changed(tmp_path / "vision", toy) <= names(weights(toy), "vision_tower")
    assert changed(tmp_path / "vision", toy)


def test_the_projectors_own_learning_rate(data, toy, tmp_path):
    """Adam's first step is the learning rate, whatever the gradient."""
    quick(data, toy, tmp_path / "out", steps=1, learning_rate=1e-3, projector_learning_rate=1e-5)
    start, end = weights(toy), weights(tmp_path / "out")
    moved = {name: float((end[name] - start[name]).abs().max()) for name in start}
    assert max(moved[name] for name in names(start, "projector")) == pytest.approx(1e-5, rel=0.05)
    assert max(moved[name] for name in names(start, "language_model")) == pytest.approx(1e-3, rel=0.05)


def test_the_record_says_how_it_was_made(data, toy, tmp_path):
    part = data.subset(["r1", "r2", "r5"])
    done = quick(part, toy, tmp_path / "out", seed=7, max_length=max(part.lengths) - 1)
    record = json.loads((tmp_path / "out/train.json").read_text())
    assert record["identity"]["seed"] == 7
    assert record["identity"]["recipe"]["batch_size"] == 4
    assert record["identity"]["data"]["pool"] == data.pool.fingerprint()
    assert record["result"]["steps"] == len(record["losses"]) == 2
    assert record["losses"] == list(done.losses)
    assert set(record["skipped"]) == set(done.skipped) != set()
    assert {"torch", "transformers", "vlmsift"} <= set(record["versions"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "nothing is left beside it"


def test_a_finished_training_is_returned_and_another_is_refused(data, toy, tmp_path):
    first = quick(data, toy, tmp_path / "out")
    stamp = (tmp_path / "out/train.json").stat().st_mtime_ns
    assert quick(data, toy, tmp_path / "out") == first
    assert (tmp_path / "out/train.json").stat().st_mtime_ns == stamp
    with pytest.raises(RunMismatch, match=r"recipe\.learning_rate: in the training 0\.001, asked for 0\.002"):
        quick(data, toy, tmp_path / "out", learning_rate=2e-3)
    with pytest.raises(RunMismatch, match=r"  data\.ids: in the training "):
        quick(data.subset(["r1", "r2"]), toy, tmp_path / "out")
    (tmp_path / "out/notes.txt").write_text("mine")
    assert quick(data, toy, tmp_path / "out") == first
    with pytest.raises(UsageError, match=r"holds other things \('notes.txt'\)"):
        quick(data, toy, tmp_path / "out", learning_rate=2e-3, resume=False)
    (tmp_path / "out/notes.txt").unlink()
    assert quick(data, toy, tmp_path / "out", learning_rate=2e-3, resume=False).steps == 2


def test_a_stopped_training_goes_on_as_if_it_had_not(data, toy, tmp_path):
    def stop(step, steps, loss):
        if step == 4:
            raise KeyboardInterrupt

    how = {"epochs": 3, "checkpoints": 3, "schedule": "linear", "warmup": 0.2}
    whole = quick(data, toy, tmp_path / "whole", **how)
    with pytest.raises(KeyboardInterrupt):
        quick(data, toy, tmp_path / "out", **how, progress=stop)
    assert not (tmp_path / "out").exists()
    with pytest.raises(RunMismatch, match="seed"):
        quick(data, toy, tmp_path / "out", **how, seed=1)
    told = []
    resumed = quick(data, toy, tmp_path / "out", **how, progress=lambda step, steps, loss: told.append((step, steps)))
    assert told == [(step, 8) for step in (4, 5, 6, 7, 8)]
    assert resumed.losses == whole.losses
    assert same(tmp_path / "out", tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_a_diverged_training_is_recorded(data, toy, tmp_path):
    done = quick(data, toy, tmp_path / "out", steps=20, learning_rate=100.0, schedule="constant")
    assert done.diverged
    assert json.loads((tmp_path / "out/train.json").read_text())["result"]["diverged"] is True
    assert quick(data, toy, tmp_path / "out", steps=20, learning_rate=100.0, schedule="constant").diverged


def test_a_loss_that_is_no_number_stops_the_training(data, toy, tmp_path):
    @contextmanager
    def poisoned(model):
        with torch.no_grad():
            model.get_output_embeddings().weight[0] = float("nan")
        yield

    done = quick(data, toy, tmp_path / "out", steps=5, context=poisoned)
    assert (done.steps, done.diverged, math.isnan(done.loss)) == (1, True, True)
    again = quick(data, toy, tmp_path / "out", steps=5, context=poisoned)
    assert math.isnan(again.loss)


def test_the_context_is_told_apart_but_not_by_its_address(data, toy, tmp_path):
    def anew(q):
        @contextmanager
        def nothing(model, q=0.0):
            yield

        return partial(nothing, q=q)

    kept = anew(0.5)
    first = quick(data, toy, tmp_path / "out", context=kept)
    assert quick(data, toy, tmp_path / "out", context=anew(0.5)) == first
    with pytest.raises(RunMismatch, match="context"):
        quick(data, toy, tmp_path / "out", context=anew(0.6))


def test_bfloat16_learns_in_float32_and_saves_in_the_models_own(data, toy, tmp_path):
    done = quick(data.subset(["r0", "r1"]), toy, tmp_path / "out", batch_size=2, dtype="bfloat16")
    plain = quick(data.subset(["r0", "r1"]), toy, tmp_path / "plain", batch_size=2)
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.float32}
    assert done.losses != plain.losses
    assert done.losses == pytest.approx(plain.losses, rel=0.02)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"device": "cuda:1"}, "'cuda:1'"),
        ({"dtype": "float16"}, "'float16'"),
        ({"max_length": 3}, "none of 10 samples can be learnt from"),
        ({"model": "nowhere"}, "'nowhere'"),
    ],
)
def test_arguments_that_cannot_be_meant(how, told, data, toy, tmp_path):
    from vlmsift.train import train

    arguments = {"model": toy, "device": "cpu", **how}
    with pytest.raises(UsageError, match=told):
        train(**with_specs(data=data, out=tmp_path / "out", **arguments, steps=1))
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_things_is_left_alone(data, toy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not the result of a training"):
        quick(data, toy, tmp_path, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_samples_encoded_for_another_model(data, toy_path, tmp_path):
    with pytest.raises(UsageError, match="another model"):
        quick(data, toy_path("gemma3"), tmp_path / "out")


def test_several_processes_are_refused(data, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="WORLD_SIZE=2"):
        quick(data, toy, tmp_path / "out")


def test_a_missing_package_names_the_extra(data, toy, tmp_path, monkeypatch):
    monkeypatch.setattr("vlmsift.train.job.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"vlmsift\[train\]"):
        quick(data, toy, tmp_path / "out")


def test_a_file_with_bad_samples_trains_on_the_good_ones(tmp_path, toy):
    rows = llava_rows(6)
    rows[4]["conversations"][1]["value"] = ""
    path = write_pool(tmp_path / "pool", rows)
    (tmp_path / "pool/images/2.png").write_bytes(b"no picture")
    done = quick(path, toy, tmp_path / "out", epochs=1)
    assert (done.samples, done.steps, set(done.skipped)) == (4, 1, {"r2", "r4"})
    assert json.loads((tmp_path / "out/train.json").read_text())["skipped"] == done.skipped


def test_data_that_does_not_fit_in_memory_gives_the_same_weights(data, pool_path, toy, tmp_path):
    pool = open_pool(pool_path)
    encoder = open_model(ModelSpec(toy, device="cpu")).encoder(partial(open_image, root=pool.image_root))
    loose = EncodedData.read(pool, encoder, workers=1, cache_bytes=0)
    quick(data, toy, tmp_path / "kept")
    quick(loose, toy, tmp_path / "read")
    assert same(tmp_path / "kept", tmp_path / "read")


def test_only_supervised_positions_reach_the_head(data, toy, tmp_path):
    """Of T positions, the head runs on those that some sample is asked at."""
    rows = []

    @contextmanager
    def watched(model):
        hook = model.get_output_embeddings().register_forward_pre_hook(lambda module, args: rows.append(args[0].shape))
        yield
        hook.remove()

    quick(data, toy, tmp_path / "out", steps=1, micro_batch=1, context=watched)
    answers = [int((data[place].labels != -100).sum()) for place in range(len(data))]
    assert len(rows) == 4
    assert all(shape[:1] == (1,) and shape[1] in answers for shape in rows)


def test_it_runs_in_the_model_it_is_given_for_learning(data, toy, tmp_path):
    """Labels and mask reach the forward as collated: augmentation reads them."""
    told = []

    @contextmanager
    def watched(model):
        hook = model.register_forward_pre_hook(
            lambda module, args, kwargs: told.append((module.training, kwargs)), with_kwargs=True
        )
        yield
        hook.remove()

    quick(data.subset(["r0", "r3"]), toy, tmp_path / "out", steps=1, batch_size=2, grouping="none", context=watched)
    ((training, kwargs),) = told
    assert training
    assert kwargs["labels"].shape == kwargs["input_ids"].shape == kwargs["attention_mask"].shape
    assert (kwargs["labels"] != -100).any(1).all()
    assert sorted(kwargs["attention_mask"].sum(1).tolist()) == sorted([data.lengths[0], data.lengths[3]])
