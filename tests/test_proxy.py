"""What a proxy's numbers and a share of the target's tell of the rest, on made-up runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.sample_runs import rows_of, settings
from vlmsift.errors import RunMismatch
from vlmsift.proxy import FEWEST, LEAST, MEASURED, Told, check_predicted, cost, predict
from vlmsift.runs.columns import NOT_ASKED
from vlmsift.runs.run import Run

ROWS, PART = 900, 256
NAN = float("nan")


def write(folder: Path, signals: dict[str, Any], widths: dict[str, int], spent: tuple[float, int], **fixed: Any) -> Run:
    identity = {"model": {"weights": folder.name}}
    if "status" in fixed:
        identity["asked"] = {"where": "some", "rows": sum(status != NOT_ASKED for status in fixed["status"])}
    made = settings(ROWS, widths, PART, **identity)
    made["info"] |= {"pool": "pool.json", "forwards": spent[0], "parameters": spent[1]}
    run, rows = Run.create_or_resume(folder, made), rows_of(signals, **fixed)
    for part, start in enumerate(range(0, ROWS, PART)):
        run.write_part(part, {name: values[start : start + PART] for name, values in rows.items()})
    return run


class Pool:
    """What both models would say of each row: the target's loss depends on the proxy's numbers and on its vector."""

    def __init__(self, seed: int = 0, noise: float = 0.3) -> None:
        rng = np.random.default_rng(seed)
        self.other, self.vector = rng.normal(size=ROWS), rng.normal(size=(ROWS, 12)).astype(np.float32)
        self.vector[:, 3] *= 5
        self.proxy = rng.normal(size=ROWS)
        self.target = np.exp(self.proxy + 0.25 * self.vector[:, 3] + noise * rng.normal(size=ROWS))
        self.chance = rng.normal(size=ROWS)  # a number that nothing tells
        self.asked = rng.permutation(ROWS) < 180

    def runs(self, folder: Path, **faults: Any) -> tuple[Run, Run]:
        small = {
            "loss": self.proxy,
            "chance": -self.chance * 0 + self.other,
            "other": self.other,
            "states": self.vector,
        }
        reason = [None] * ROWS
        for row in faults.get("unread", ()):
            reason[row] = "image cannot be read: gone"
        proxy = write(
            folder / "proxy", small, {"loss": 1, "chance": 1, "other": 1, "states": 12}, (2, 10), reason=reason
        )
        status = np.where(self.asked, "ok", NOT_ASKED).astype(object)
        why = [None if asked else f"{NOT_ASKED}: not (some)" for asked in self.asked]
        for row in faults.get("failed", ()):
            status[row], why[row] = "error", "failed in the model: too long"
        large = {
            name: np.where(status == "ok", values, NAN)
            for name, values in (("loss", self.target), ("chance", self.chance))
        }
        return proxy, write(folder / "target", large, {"loss": 1, "chance": 1}, (1.5, 100), status=status, reason=why)


def column(run: Run, name: str) -> Any:
    return run.table([name])[name].to_numpy()


def test_the_target_is_told_better_than_by_the_proxy_alone(tmp_path: Path) -> None:
    pool = Pool()
    made = predict(*pool.runs(tmp_path), tmp_path / "run", ["loss"], ["states"])
    found, unseen = column(made, "loss"), ~pool.asked
    told = Told(**made.settings["identity"]["signals"]["loss"]["predicted"])
    reached = spearmanr(found[unseen], pool.target[unseen]).statistic
    own = spearmanr(pool.proxy[unseen], pool.target[unseen]).statistic
    assert reached > own + 0.05, "the vector tells what the proxy's number does not"
    assert told.by == "trees"
    assert told.rows == 180
    assert told.agreement == pytest.approx(reached, abs=0.08), "what is said of unseen rows holds of them"
    assert told.own == pytest.approx(own, abs=0.08)
    np.testing.assert_array_equal(found[pool.asked], pool.target[pool.asked].astype(np.float32))
    np.testing.assert_array_equal(column(made, MEASURED), pool.asked)
    np.testing.assert_array_equal(made.vector("states"), pool.vector)


def test_told_and_measured_numbers_can_be_ranked_together(tmp_path: Path) -> None:
    """A regression leans to the middle; without care the best and the worst would all be measured rows."""
    pool = Pool(noise=1.0)
    found = column(predict(*pool.runs(tmp_path), tmp_path / "run", ["loss"], []), "loss")
    share = pool.asked[np.argsort(found)[-180:]].mean()
    assert share == pytest.approx(pool.asked.mean(), abs=0.08)


def test_the_proxy_s_own_number_stands_where_nothing_can_be_learnt(tmp_path: Path) -> None:
    pool = Pool()
    proxy, target = pool.runs(tmp_path)
    made = predict(proxy, target, tmp_path / "run", ["loss", "chance"], [])
    told = Told(**made.settings["identity"]["signals"]["chance"]["predicted"])
    assert told.by == "proxy"
    assert told.agreement is not None
    assert told.agreement < LEAST
    np.testing.assert_array_equal(column(made, "chance"), column(proxy, "chance"))
    assert f"is below {LEAST}" in told.sentence("chance")
    assert "predicted; rank agreement" in Told(200, 0.8, 0.7, "trees").sentence("loss")
    assert "no more than the proxy's own" in Told(200, 0.8, 0.9, "proxy").sentence("loss")


def test_a_proxy_that_agrees_already_is_left_alone(tmp_path: Path) -> None:
    pool = Pool()
    pool.target = np.exp(pool.proxy)
    made = predict(*pool.runs(tmp_path), tmp_path / "run", ["loss"], [])
    told = Told(**made.settings["identity"]["signals"]["loss"]["predicted"])
    assert (told.by, told.own) == ("proxy", 1.0)
    np.testing.assert_array_equal(column(made, "loss"), pool.proxy.astype(np.float32))
    assert not column(made, MEASURED).any(), "numbers of two models do not mix"


def test_too_few_rows_teach_nothing(tmp_path: Path) -> None:
    pool = Pool()
    pool.asked &= np.cumsum(pool.asked) < FEWEST
    made = predict(*pool.runs(tmp_path), tmp_path / "run", ["loss"], [])
    told = Told(**made.settings["identity"]["signals"]["loss"]["predicted"])
    assert told == Told(FEWEST - 1, None, None, "proxy")
    assert told.sentence("loss").startswith(f"loss: {FEWEST - 1} rows that both measured are too few")


def test_a_row_that_one_of_both_cannot_measure_is_an_error(tmp_path: Path) -> None:
    pool = Pool()
    asked, rest = np.flatnonzero(pool.asked), np.flatnonzero(~pool.asked)
    pool.proxy[rest[5]] = NAN  # undefined for the proxy, so it stays undefined
    pool.vector[rest[6]] = NAN
    made = predict(*pool.runs(tmp_path, unread=[rest[0]], failed=[asked[0]]), tmp_path / "run", ["loss"], ["states"])
    rows = made.table().to_pylist()
    assert rows[rest[0]]["reason"] == "image cannot be read: gone"
    assert rows[asked[0]]["reason"] == "failed in the model: too long"
    for row in (rest[0], asked[0]):
        assert (rows[row]["status"], rows[row]["loss"], rows[row]["states"]) == ("error", None, None)
    assert rows[rest[5]]["status"] == "ok"
    assert rows[rest[5]]["loss"] is None
    assert rows[rest[6]]["loss"] is not None
    assert made.summary()["ok"] == ROWS - 2


def test_it_repeats_and_goes_on(tmp_path: Path) -> None:
    pair = Pool().runs(tmp_path)
    before = predict(*pair, tmp_path / "run", ["loss"], ["states"]).signals_hash()
    (tmp_path / "run" / "signals" / "part-000001.parquet").unlink()
    assert predict(*pair, tmp_path / "run", ["loss"], ["states"]).signals_hash() == before
    with pytest.raises(RunMismatch, match=r"signals\.chance"):
        predict(*pair, tmp_path / "run", ["loss", "chance"], ["states"])
    check_predicted(tmp_path / "run", False)
    with pytest.raises(RunMismatch, match="a run that one model measured"):
        check_predicted(tmp_path / "proxy", False)
    check_predicted(tmp_path / "proxy", True)


def test_runs_of_other_data_are_refused(tmp_path: Path) -> None:
    proxy, target = Pool().runs(tmp_path)
    target.settings["identity"]["data"]["fingerprint"] = "another"
    with pytest.raises(RunMismatch, match="different data"):
        predict(proxy, target, tmp_path / "run", ["loss"], [])


def test_what_it_took_is_told(tmp_path: Path) -> None:
    pair = Pool().runs(tmp_path)
    # 900 rows x 2 forwards x 10 parameters, and 180 x 1.5 x 100, of 900 x 1.5 x 100
    assert cost(*pair)["ratio"] == pytest.approx((18_000 + 27_000) / 135_000, abs=1e-4)
    made = predict(*pair, tmp_path / "run", ["loss"], [])
    assert made.settings["info"]["cost"]["target"] == {"rows": 180, "forwards": 1.5, "parameters": 100}
    assert made.settings["identity"]["predicted"]["proxy"]["model"] == {"weights": "proxy"}
