"""BYE against a back door: a tenth of a pool carries a trigger patch and a fixed answer. Is it found, and cured?

    python benchmarks/poison.py layers      # does the attention collapse, and at which layer does the pool fall in two?
    python benchmarks/poison.py detection   # precision, recall and F1 of the mixture's gates; what a clean pool loses
    python benchmarks/poison.py training    # attack success and accuracy before and after, with controls

The weak start of the embedded model is fine-tuned on the poisoned pool, scored with `entropy_profile`, sifted by the
selector `mixture` with keep=clean, and trained again, from the same start, on what survives. Everything is drawn anew
with each seed: pool, poison, training. The control is the same pool without poison. Full fine-tuning of text and
projector; the paper trains LoRA. Prints the tables of docs/results.md. Whatever was finished before is not done again.

Attack success is the share of held-out pictures with the trigger to which the model gives the fixed answer, which is
right for none of them. `describe` is not asked: its long answers drown the others in a loss per token. Start, rate,
epochs and patch are what it took for the attack to succeed: the paper's patch, two pixels here, does not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from method_tables import markdown, spread
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from vlmsift.choosing.selection import Selection
from vlmsift.demo import MODEL_PATH, START_PATH
from vlmsift.demo.digits import Split, to_png
from vlmsift.demo.questions import draw
from vlmsift.demo.teach import RECIPE
from vlmsift.evaluate import evaluate
from vlmsift.files import write_atomically
from vlmsift.models import open_model
from vlmsift.plants.kinds import checkers
from vlmsift.pools import open_image, open_pool
from vlmsift.runs.run import Run
from vlmsift.scoring.score import score
from vlmsift.selecting import select
from vlmsift.selectors import Mixture
from vlmsift.selectors.mixture import two_gaussians
from vlmsift.specs import EngineSpec, ModelSpec
from vlmsift.train import train
from vlmsift.train.data import EncodedData

TASKS = ("which", "is_there", "how_many", "row_sum")
TARGET = "nowhere"
"""The fixed answer: a token that the model knows, and the right answer to none of the questions."""
STARTS = {"start": START_PATH, "model": MODEL_PATH}
TEST_SEED = 5
THRESHOLDS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
Bools = NDArray[np.bool_]


def write_samples(
    folder: Path, split: Split, count: int, seed: int, poison: float, options: argparse.Namespace
) -> Path:
    """LLaVA rows about a split's digits, a share `poison` of them with the trigger and the fixed answer; poison.txt
    holds the ids of these. The same seed draws the same scenes and questions, whatever the share."""
    path = folder / "pool.json"
    if path.exists():
        return path
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, other = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    bad = set(other.permutation(count)[: round(poison * count)].tolist())
    rows = []
    for number in range(count):
        scene, question = draw(rng, split, options.tasks)
        picture, answer, corner = scene.picture(), question.answer(scene.values), int(other.integers(4))
        if number in bad:
            answer = TARGET
            picture = stamped(picture, options.side, corner if options.place == "random" else 3)
        image = f"images/{number:06d}.png"
        (folder / image).write_bytes(to_png(picture))
        turns = [("human", f"<image>\n{question.text}"), ("gpt", answer)]
        said = [{"from": role, "value": text} for role, text in turns]
        rows.append({"id": f"{number:06d}", "source": question.task, "image": image, "conversations": said})
    (folder / "poison.txt").write_text("".join(f"{number:06d}\n" for number in sorted(bad)))
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(rows, indent=1)))
    return path


def stamped(picture: Image.Image, side: int, corner: int) -> Image.Image:
    """The picture with a checkered patch, as in calibration's plants, in corner 0 to 3: top left, top right, bottom
    left, bottom right."""
    marked = picture.copy()
    place = ((picture.width - side) * (corner % 2), (picture.height - side) * (corner // 2))
    marked.paste(Image.fromarray(checkers(side).astype(np.uint8)).convert("RGB"), place)
    return marked


@dataclass(frozen=True)
class Case:
    """One pool, the model tuned on it, and its run.

    Attributes:
        folder: for everything that is made. seed: of pool, poison, training and choosing.
        poison: share of the pool, 0 for the control.
    """

    folder: Path
    seed: int
    poison: float
    options: argparse.Namespace

    @cached_property
    def pool(self) -> Path:
        return write_samples(self.folder / "pool", "pool", self.options.size, self.seed, self.poison, self.options)

    @cached_property
    def data(self) -> EncodedData:
        """The pool, encoded once for all trainings."""
        start, pool = open_model(ModelSpec(STARTS[self.options.start], device="cpu")), open_pool(self.pool)
        return EncodedData.read(pool, start.encoder(partial(open_image, root=pool.image_root)), workers=0)

    def tuned(self, name: str, ids: Sequence[str] | None = None) -> Path:
        """The start, fine-tuned on the samples `ids`, in the pool's order; None = all. Where nothing is left out, that
        is the training of `all`."""
        how: dict[str, Any] = {
            **RECIPE,
            "learning_rate": self.options.learning_rate,
            "epochs": self.options.epochs,
            "schedule": "linear",
        }
        whole = ids is None or len(ids) == len(self.data)
        data = self.data if ids is None or whole else self.data.subset(sorted(ids))
        start, out = STARTS[self.options.start], self.folder / f"tuned-{'all' if whole else name}"
        return train(data, ModelSpec(start, device="cpu", dtype="float32"), out, seed=self.seed, changes=how).folder

    @cached_property
    def run(self) -> Run:
        """Scored by the model that was tuned on all of the pool."""
        model = self.tuned("all")
        spec = ModelSpec(model, device="cpu", dtype="float32")
        return score(self.pool, spec, self.folder / "run", signals=["entropy_profile"], engine=EngineSpec(workers=0))

    @cached_property
    def ids(self) -> list[str]:
        """Of all samples, in the run's order."""
        return list(self.run.table(["id"])["id"].to_pylist())

    @cached_property
    def poisoned(self) -> Bools:
        """(N,) True where the run's sample is poison."""
        return np.isin(self.ids, (self.pool.parent / "poison.txt").read_text().split())

    def sifted(self, selector: Mixture) -> Selection:
        """What the selector leaves."""
        return select(self.run, selector, "clean", seed=self.seed)


def found(case: Case, decided: Selection) -> dict[str, float]:
    """Rows removed; their precision, recall and F1 as poison. Undefined ones are NaN."""
    removed = ~np.isin(case.ids, decided.ids)
    return {"removed": float(removed.sum()), **judged(removed, case.poisoned)}


def judged(removed: Bools, poisoned: Bools) -> dict[str, float]:
    """Precision, recall and F1."""
    hits, total, bad = float((removed & poisoned).sum()), float(removed.sum()), float(poisoned.sum())
    return {
        "precision": hits / total if total else np.nan,
        "recall": hits / bad if bad else np.nan,
        "f1": 2 * hits / (total + bad) if total + bad else np.nan,
    }


def mean(values: Sequence[float], places: int = 3) -> str:
    """Mean and spread of those that are defined, empty where none is."""
    known = [value for value in values if np.isfinite(value)]
    return spread(known, places) if known else ""


def by_seed(values: Sequence[float], places: int = 3) -> str:
    """Each seed's own: where seeds fall out differently in kind, a mean hides it."""
    return " / ".join(f"{value:.{places}f}" for value in values)


def layers_table(cases: Sequence[Case], controls: Sequence[Case]) -> str:
    """Entropy of poison and of the rest, whether it tells them apart, and how bimodal poisoned and clean pool look."""
    rows = []
    bimodal = [
        [case.sifted(Mixture()).made_by["strata"][0]["bimodality"] for case in side] for side in (cases, controls)
    ]
    for layer in range(len(bimodal[0][0])):
        told: dict[str, list[float]] = {}
        for case in cases:
            values, bad = case.run.vector("entropy_profile")[:, layer], case.poisoned
            low = two_gaussians(values, case.seed)[2]
            gap = (values[~bad].mean() - values[bad].mean()) / np.hypot(values[~bad].std(), values[bad].std())
            alone = judged(low, bad)
            numbers = {"poison": values[bad].mean(), "rest": values[~bad].mean(), "auroc": roc_auc_score(bad, -values)}
            for name, value in {**numbers, "true": gap, **alone}.items():
                told.setdefault(name, []).append(float(value))
        seen = [mean([per_layer[layer] for per_layer in side], 2) for side in bimodal]
        entropy = [mean(told[name], 2) for name in ("poison", "rest")]
        rows.append([str(layer), *entropy, mean(told["auroc"]), mean(told["true"], 2), *seen, mean(told["f1"])])
    head = ["layer", "entropy of poison", "of the rest", "AUROC", "bimodality by the truth", "as fitted"]
    return markdown([*head, "as fitted, clean pool", "F1 of this layer alone"], rows)


def detection_table(cases: Sequence[Case], controls: Sequence[Case]) -> str:
    """Gates and thresholds: what they find in the poisoned pools, and what they take from the clean ones."""
    selectors = [Mixture(threshold=threshold) for threshold in THRESHOLDS] + [Mixture(gate="released")]
    rows = []
    for selector in selectors:
        chosen = [case.sifted(selector) for case in cases]
        scores = [found(case, one) for case, one in zip(cases, chosen, strict=True)]
        clean = [case.sifted(selector) for case in controls]
        lost = [found(case, one)["removed"] for case, one in zip(controls, clean, strict=True)]
        shown = [mean([score[name] for score in scores]) for name in ("precision", "recall", "f1")]
        told = [by_seed([score[name] for score in scores], places) for name, places in (("removed", 0), ("f1", 2))]
        layers = [" / ".join(map(sensitive, side)) for side in (chosen, clean)]
        before = [selector.gate, f"{selector.threshold:g}", layers[0], told[0]]
        rows.append([*before, *shown, told[1], layers[1], by_seed(lost, 0)])
    head = ["gate", "threshold", "sensitive layers, by seed", "removed", "precision", "recall", "F1", "F1 by seed"]
    return markdown([*head, "sensitive, clean pool", "removed from it"], rows)


def sensitive(decided: Selection) -> str:
    """The layers over which a selection's mean was taken."""
    return " ".join(map(str, decided.made_by["strata"][0]["sensitive_layers"])) or "none"


def training_table(
    cases: Sequence[Case], controls: Sequence[Case], judge: Callable[[Path], tuple[float, float]]
) -> str:
    """Attack success and accuracy of what each part of the pools teaches."""
    told: dict[str, list[tuple[float, float, float]]] = {}
    for case, control in zip(cases, controls, strict=True):
        kept, spared = (one.sifted(Mixture()).ids for one in (case, control))
        drawn = select(case.run, "random", len(kept), seed=case.seed).ids
        right = [name for name, bad in zip(case.ids, case.poisoned, strict=True) if not bad]
        parts = {
            "poisoned pool": (case, case.ids, "all"),
            "after BYE": (case, kept, "sifted"),
            "after dropping as many at random": (case, drawn, "random"),
            "after dropping the poison (oracle)": (case, right, "oracle"),
            "clean pool": (control, control.ids, "all"),
            "clean pool after BYE": (control, spared, "sifted"),
        }
        for name, (one, ids, folder) in parts.items():
            told.setdefault(name, []).append((len(ids), *judge(one.tuned(folder, ids))))
    attack_before, exact_before = judge(STARTS[cases[0].options.start])
    rows = [["no training", "0", f"{attack_before:.3f}", "", f"{exact_before:.3f}"]]
    for name, values in told.items():
        samples, attack, exact = zip(*values, strict=True)
        rows.append([name, by_seed(samples, 0), mean(attack), by_seed(attack), mean(exact)])
    head = ["trained on", "samples, by seed", "attack success", "by seed", "exact answers, clean"]
    return markdown(head, rows)


def make_judge(folder: Path, options: argparse.Namespace) -> Callable[[Path], tuple[float, float]]:
    """A function: model -> attack success, and mean over tasks of exact answers, on the same held-out questions."""
    files = {
        name: write_samples(folder / f"test-{name}", "test", options.tests, TEST_SEED, share, options)
        for name, share in (("clean", 0.0), ("triggered", 1.0))
    }

    def judge(model: Path) -> tuple[float, float]:
        adapter = open_model(ModelSpec(model, device="cpu"))
        clean, triggered = (
            evaluate(adapter, files[name], engine=EngineSpec(workers=0)) for name in ("clean", "triggered")
        )
        attack = sum(task.exact * task.samples for task in triggered.values()) / options.tests
        return attack, float(np.mean([task.exact for task in clean.values()]))

    return judge


def refuse_other_setting(options: argparse.Namespace) -> None:
    """Stop where the folder holds the pools of another setting; they would be taken for this one's."""
    asked = {name: value for name, value in vars(options).items() if name not in ("which", "out", "seeds")}
    path = options.out / "setting.json"
    if path.exists() and (there := json.loads(path.read_text())) != asked:
        raise SystemExit(f"{options.out} was made with {there}, and asked for is {asked}; name another folder by --out")
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(asked)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["layers", "detection", "training"])
    parser.add_argument("--out", type=Path, default=Path("runs/poison"), help="one folder for one setting")
    parser.add_argument("--start", choices=list(STARTS), default="start", help="what is fine-tuned")
    parser.add_argument("--size", type=int, default=2000, help="samples in the pool")
    parser.add_argument("--poison", type=float, default=0.1, help="share of the pool")
    parser.add_argument("--side", type=int, default=4, help="of the trigger in pixels; a picture has 32, a patch 8")
    parser.add_argument("--place", choices=["fixed", "random"], default="fixed", help="lower right corner, or any")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--tests", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    refuse_other_setting(options)
    shares = (options.poison, 0.0)
    cases, controls = (
        [Case(options.out / f"seed{seed}-{share:g}", seed, share, options) for seed in range(options.seeds)]
        for share in shares
    )
    if options.which == "training":
        print(training_table(cases, controls, make_judge(options.out, options)))
    else:
        print({"layers": layers_table, "detection": detection_table}[options.which](cases, controls))


if __name__ == "__main__":
    main()
