"""Every contract for every method of the table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.methods.contracts import CONTRACTS
from tests.methods.samples import Bench
from vlmsift.methods import METHODS


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("methods"))


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("name", METHODS)
def test_a_method_keeps_its_contracts(name: str, contract: Callable[[str, Bench], None], bench: Bench) -> None:
    contract(name, bench)
