"""What a calibration leaves on disk: a config for `score --config`, the table, and the verdict to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vlmsift.files import plain, write_atomically, write_text
from vlmsift.tables import Account, Record, Section, as_markdown, number, written_account

if TYPE_CHECKING:
    from vlmsift.calibrate import Calibration
    from vlmsift.calibrate.combined import Combined
    from vlmsift.calibrate.verdict import Judged

HEADER = """# Written by `vlmsift calibrate`. Use it: vlmsift score POOL --model MODEL --out RUN --config THIS_FILE
# The setting was chosen for one pool and one model; calibrate again for another.
"""
EXPLAINED = """Each AUROC is the chance that an original lies above a twin in the signal's good direction, with the 95 %
interval of a bootstrap over originals; 0.5 is chance. Originals count as good: where the pool itself holds bad samples,
every figure is drawn towards 0.5. `mean` is over the kinds that a signal of single samples can find; `duplicate` is not
one of them, since a copy looks as good as its original. `forwards` is what the signal costs alone; `length` and `loss`
are rank correlations, over originals, with the answer's tokens and with its loss.
"""


def write_all(calibration: Calibration, judged: Mapping[str, Judged], weights: Combined | None) -> None:
    """Write `calibration.yaml`, `table.parquet` and `calibration.md`, each whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_text(calibration.config, config_text(calibration, judged, weights))
    told = account(calibration)
    write_text(calibration.folder / "calibration.md", as_markdown(told))
    table = pa.Table.from_pylist(plain(calibration.table))  # an undefined figure is null
    table = table.replace_schema_metadata(written_account(told))
    write_atomically(calibration.folder / "table.parquet", lambda path: pq.write_table(table, path))


def config_text(calibration: Calibration, judged: Mapping[str, Judged], weights: Combined | None) -> str:
    """The config: the recommended setting under its signal's name, the default signals, weights, what to rank by."""
    import yaml

    from vlmsift.signals import DEFAULT_SIGNALS

    chosen = judged[calibration.column].candidate
    column = chosen.word.partition(":")[0]
    content: dict[str, Any] = {"signals": [chosen.word, *(name for name in DEFAULT_SIGNALS if name != column)]}
    if weights is not None:
        fitted = weights.weights
        numbers = (fitted.mean.tolist(), fitted.scale.tolist(), fitted.weight.tolist())  # (P,) each
        facts = zip(weights.words, weights.log, *numbers, strict=True)
        parts = [dict(zip(("signal", "log", "mean", "scale", "weight"), fact, strict=True)) for fact in facts]
        content["calibrated"] = {"intercept": fitted.intercept, "parts": parts}
    content["select"] = {"by": column, "pick": chosen.good}
    content["made_by"] = {"mean_auroc": round(judged[calibration.column].mean.value, 4), **calibration.counts}
    return HEADER + str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def account(calibration: Calibration) -> Account:
    """The verdict, what trainings gave, and the whole table."""
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in calibration.counts.items())
    sections = [Section(text=f"Measured: {counts}.", points=calibration.sentences)]
    if calibration.left_out:
        sections.append(Section(text="Left out:", points=calibration.left_out))
    if calibration.weights:
        weights = [f"{word} {weight:+.2f}" for word, weight in calibration.weights.items()]
        sections.append(Section(text="Weights of the signal `calibrated`, on standardised values:", points=weights))
    if calibration.probe is not None:
        told = "What short trainings on the best 20 % gave (accuracy on held-out samples):"
        sections.append(Section("Probe", told, records=calibration.probe.records()))
    cost = (
        f"The whole grid cost {calibration.forwards:.1f} text forwards per sample, since all settings share the first "
        f"pass; one by one they would cost {calibration.alone:.1f}."
    )
    records = [text_record(row) for row in calibration.table]
    sections.append(Section("Figures", cost, records=records, left=2))
    return Account("Calibration", [*sections, Section(text=" ".join(EXPLAINED.split()), detail=True)])


def text_record(row: Mapping[str, Any]) -> Record:
    """The main figures of a candidate as text."""
    record = {"signal": str(row["signal"]), "good": str(row["good_end"]), "forwards": f"{row['forwards']:.2f}"}
    for kind in (key.removeprefix("auroc_") for key in row if key.startswith("auroc_")):
        record[kind.replace("_", " ")] = number(row[f"auroc_{kind}"], 3, "-")
    record["mean"] += f" [{number(row['low_mean'], 3, '-')}, {number(row['high_mean'], 3, '-')}]"
    record["length"] = number(row["spearman_answer_tokens"], 3, "-")
    record["loss"] = number(row["spearman_answer_loss"], 3, "-")
    probed = [name for name in ("probe_exact", "probe_loss") if name in row]
    return record | {name.replace("_", " "): number(row[name], 3, "-") for name in probed}
