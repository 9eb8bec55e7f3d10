"""The library's front door: its names are pinned, and each of them opens."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import vlmsift

NAMES = [
    "Adapter",
    "EngineSpec",
    "METHODS",
    "ModelSpec",
    "Pool",
    "PoolSpec",
    "Run",
    "Sample",
    "Selection",
    "Signal",
    "Top",
    "Turn",
    "__version__",
    "masked_states",
    "open_model",
    "open_pool",
    "score",
    "select",
    "sift",
]


def test_the_public_names():
    assert sorted(vlmsift.__all__) == NAMES
    assert dir(vlmsift) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_name_opens_and_says_what_it_is(name):
    value = getattr(vlmsift, name)
    assert name in ("METHODS", "__version__") or value.__doc__
    assert name in ("METHODS", "__version__") or value.__name__ == name
    assert getattr(vlmsift, name) is value


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'vlmsift' has no attribute 'scores'"):
        _ = vlmsift.scores


def test_the_version_is_the_package_s():
    assert vlmsift.__version__ == version("vlmsift")
