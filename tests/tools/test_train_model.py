"""A few steps of the committed script: they run, they repeat, and they leave a folder that loads."""

import pytest
import torch
from tools.embedded_model import train_model
from tools.embedded_model.train_model import Plan, build, main, train
from transformers import AutoModelForImageTextToText, AutoProcessor

from vlmsift.errors import UsageError

SHORT = Plan(vision_steps=2, vision_batch=4, look_up_steps=1, look_up_batch=4, steps=2, batch=4)

BRIEFLY = ["--vision-steps", "1", "--look-up-steps", "1", "--steps", "1", "--threads", "1", "--test-samples", "10"]


@pytest.fixture(autouse=True)
def _fewer_watched(monkeypatch):
    draw = train_model.draw_samples
    monkeypatch.setattr(train_model, "draw_samples", lambda name, count, seed: draw(name, min(count, 10), seed))


def test_training_repeats():
    first = train(0, SHORT, log=_quiet)[0]
    # Whatever was drawn before must not matter.
    torch.manual_seed(99)
    again = train(0, SHORT, log=_quiet)[0]
    other = train(1, SHORT, log=_quiet)[0]
    weights = first.state_dict()
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in weights.items())
    assert any(not torch.equal(weight, other.state_dict()[name]) for name, weight in weights.items())
    assert not first.training
    assert all(weight.requires_grad for weight in first.parameters())


def test_both_stages_train_what_they_should():
    start = build(0)[0].state_dict()
    seen = train(0, Plan(vision_steps=2, vision_batch=4, look_up_steps=0, steps=0), log=_quiet)[0].state_dict()
    full = train(0, SHORT, log=_quiet)[0].state_dict()
    projector, tower = "model.multi_modal_projector.linear_1.weight", _name(start, "patch_embedding.weight")
    assert torch.equal(start[projector], seen[projector])
    assert not torch.equal(start[tower], seen[tower])
    assert torch.equal(seen[tower], full[tower])
    assert not torch.equal(seen[projector], full[projector])


def test_the_script_writes_a_folder_that_loads(tmp_path, capsys):
    out = tmp_path / "a model"
    main(["--out", str(out), *BRIEFLY])
    printed = capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert "mean of tasks" in printed
    table = printed[printed.index("| task") :].strip()
    assert table in card
    AutoModelForImageTextToText.from_pretrained(out)
    AutoProcessor.from_pretrained(out)
    assert [path.name for path in tmp_path.iterdir()] == ["a model"]


def test_a_proxy_is_smaller_and_stored_in_half(tmp_path):
    main(["--out", str(tmp_path / "tiny"), "--size", "tiny", "--half", "--learning-rate", "4e-3", *BRIEFLY])
    stored = AutoModelForImageTextToText.from_pretrained(tmp_path / "tiny")
    assert stored.dtype == torch.float16
    assert sum(weight.numel() for weight in stored.parameters()) < 130_000
    card = (tmp_path / "tiny" / "README.md").read_text()
    assert "--size tiny --learning-rate 0.004 --vision-steps 1 --half --look-up-steps 1 --steps 1" in card
    assert "heads, float16," in card


def test_other_folders_are_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="other than a model"):
        main(["--out", str(tmp_path), *BRIEFLY])
    assert (tmp_path / "notes.txt").exists()


def _quiet(_line):
    """Stands in for print."""


def _name(weights, end):
    return next(name for name in weights if name.endswith(end))


def test_a_vision_tower_can_be_taken_over(tmp_path):
    main(["--out", str(tmp_path / "first"), *BRIEFLY])
    main(["--out", str(tmp_path / "second"), "--vision-from", str(tmp_path / "first"), "--seed", "3", *BRIEFLY])
    first, second = (AutoModelForImageTextToText.from_pretrained(tmp_path / name) for name in ("first", "second"))
    towers = [model.model.vision_tower.state_dict() for model in (first, second)]
    assert all(torch.equal(weight, towers[1][name]) for name, weight in towers[0].items())
    assert not torch.equal(first.lm_head.weight, second.lm_head.weight)
    card = (tmp_path / "second" / "README.md").read_text()
    assert "the vision tower of `first`" in card
    assert "--vision-from" in card
