"""Recipes: LLaVA's figures, changes, and what cannot be meant."""

from __future__ import annotations

import pytest

from vlmsift.errors import UsageError
from vlmsift.train.recipes import RECIPES, Recipe, recipe_of


def test_the_full_recipe_is_llavas():
    full = RECIPES["llava-1.5"]
    assert (full.learning_rate, full.weight_decay, full.schedule, full.warmup) == (2e-5, 0.0, "cosine", 0.03)
    assert (full.epochs, full.batch_size, full.max_length, full.grouping) == (1, 128, 2048, "length")
    assert (full.train, full.lora, full.gradient_checkpointing) == (("text", "projector"), None, True)


def test_the_lora_recipe_is_llavas():
    lora = RECIPES["llava-1.5-lora"]
    assert (lora.lora, lora.lora_alpha, lora.learning_rate, lora.projector_learning_rate) == (128, 256, 2e-4, 2e-5)
    assert (lora.batch_size, lora.warmup, lora.schedule, lora.weight_decay) == (128, 0.03, "cosine", 0.0)


def test_a_change_replaces_one_value():
    assert recipe_of("llava-1.5", {"epochs": 2.5}) == Recipe(epochs=2.5)
    assert recipe_of(Recipe(batch_size=6), {"steps": 3}) == Recipe(batch_size=6, steps=3)
    assert recipe_of(Recipe(), {"train": "vision"}).train == ("vision",)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"batch_size": None}, "batch_size=None"),
        ({"steps": -1}, "steps=-1"),
        ({"steps": True}, "steps=True"),
        ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": "2e-5"}, "learning_rate='2e-5'"),
        ({"projector_learning_rate": 0.0}, "projector_learning_rate=0.0"),
        ({"warmup": 1.0}, "warmup=1.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1"),
        ({"schedule": "sine"}, "schedule='sine'"),
        ({"grouping": "size"}, "grouping='size'"),
        ({"train": ("text", "audio")}, "train=('text', 'audio')"),
        ({"train": ()}, "nothing would learn"),
        ({"lora": 8, "train": ("projector",)}, "lora=8 needs 'text'"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing=1"),
        ({"batch_size": 12, "micro_batch": 5}, "choose one of 1, 2, 3, 4, 6, 12"),
        ({"lr": 1e-4}, "a recipe has no 'lr'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_quoted(changes, told):
    with pytest.raises(UsageError) as caught:
        recipe_of("llava-1.5", changes)
    assert told in str(caught.value)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(UsageError, match=r"no recipe 'llava-2'; known are llava-1.5, llava-1.5-lora"):
        recipe_of("llava-2")


@pytest.mark.parametrize(("batch", "size"), [(128, 16), (12, 12), (34, 2), (17, 1), (45, 15), (1, 1)])
def test_the_samples_of_a_forward_divide_the_batch(batch, size):
    assert Recipe(batch_size=batch).per_forward == size


def test_samples_of_a_training():
    assert Recipe(epochs=2).samples(10) == 20
    assert Recipe(epochs=0.25).samples(10) == 3
    assert Recipe(epochs=1.1).samples(10) == 11
    assert Recipe(epochs=9, steps=4, batch_size=8).samples(10) == 32
