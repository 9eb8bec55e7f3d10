"""Bars and remarks are off inside, and as before outside."""

from __future__ import annotations

import pytest
from transformers.utils import logging

from tests.models.helpers import opened
from vlmsift.models import open_model
from vlmsift.models.silence_transformers import silence_transformers


@pytest.fixture
def loud():
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    yield
    logging.set_verbosity(verbosity)
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()


@pytest.mark.usefixtures("loud")
def test_as_before_also_after_an_error():
    with silence_transformers():
        assert logging.get_verbosity() == logging.ERROR
        assert not logging.is_progress_bar_enabled()
    with pytest.raises(KeyError), silence_transformers():
        raise KeyError
    assert logging.get_verbosity() == logging.INFO
    assert logging.is_progress_bar_enabled()


@pytest.mark.usefixtures("loud")
def test_opening_a_model_prints_no_bar(toy_path, capfd):
    open_model(toy_path("llava"))
    assert "Loading weights" not in capfd.readouterr().err
    assert opened(toy_path("llava")).depth
