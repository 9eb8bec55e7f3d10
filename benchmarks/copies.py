"""Masked copies beside the samples, in place of them, on a schedule, of some, with a consistency term: does any pay?

    python benchmarks/copies.py short        # 200 clean samples, 4 epochs
    python benchmarks/copies.py overfit      # the same, 25 epochs

The embedded model's weak start, fine-tuned on clean digits; five seeds. All arms take as many optimiser steps; those
with a copy beside each sample take two forwards a step, so `...-half` takes half of the steps: as many samples seen.

none          plain training
replace       a sample is masked with probability 1/2
beside        each step learns from the samples and from their masked copies, half the loss each
beside-high   copies only of the half with the highest Delta-AttnMask
schedule      replace, with a probability that falls from 1/2 to 0
consistency   none, and the masked copy's answers shall be like the sample's own (KL divergence, weight 1/2)

Prints exact answers and the loss on 800 new questions, means over tasks, and the difference to `none`, paired by seed.
Finished trainings are kept in --out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from choices import difference
from digit_pools import make_data
from method_tables import markdown, spread
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from vlmsift.augment import masked_states
from vlmsift.demo import START_PATH
from vlmsift.evaluate import evaluate
from vlmsift.models import Encoded, open_model
from vlmsift.pools import open_image, open_pool
from vlmsift.scoring.score import score
from vlmsift.specs import EngineSpec, ModelSpec
from vlmsift.train.data import EncodedData

ARMS = ("none", "replace", "beside", "beside-half", "beside-high", "schedule", "consistency", "consistency-half")
EPOCHS = {"short": 4, "overfit": 25}
SAMPLES, BATCH, RATE, WARM = 200, 32, 1e-3, 0.03
WEIGHT = 0.5
"""Of the copies' loss beside the samples' own, and of the consistency term."""


def answer_logits(model: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """(n, V) logits at the n positions that predict a supervised token, and these tokens (n,)."""
    logits = model(**batch.inputs, labels=batch.labels).logits[:, :-1]  # (B, T - 1, V)
    following = batch.labels[:, 1:]  # (B, T - 1)
    return logits[following != -100].float(), following[following != -100]


def steps_of(count: int, epochs: float, seed: int) -> Iterator[list[int]]:
    """Places of the samples of each step."""
    rng, total = np.random.default_rng(seed), round(epochs * count / BATCH)
    places: list[int] = []
    for _ in range(total):
        while len(places) < BATCH:
            places += rng.permutation(count).tolist()
        yield places[:BATCH]
        places = places[BATCH:]


def teach(arm: str, samples: list[Encoded], high: set[int], epochs: float, seed: int) -> Any:
    """The start, fine-tuned as the arm says; an adapter."""
    torch.manual_seed(seed)
    adapter = open_model(ModelSpec(START_PATH, device="cpu"))
    model, name = adapter.model, arm.removesuffix("-half")
    learning = [value for key, value in model.named_parameters() if "vision" not in key]
    for value in model.parameters():
        value.requires_grad_(False)
    for value in learning:
        value.requires_grad_(True)
    batches = list(steps_of(len(samples), epochs / 2 if arm.endswith("-half") else epochs, seed))
    optimiser = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.0)
    rates = get_cosine_schedule_with_warmup(optimiser, round(WARM * len(batches)), len(batches))
    encoder = adapter.encoder(partial(open_image, root=Path()))
    model.train()
    with masked_states(model, "top", probability=0.0, seed=seed, processor=adapter.processor) as masked:
        for number, places in enumerate(batches):
            batch = encoder.collate([samples[place] for place in places])
            masked.probability = {"replace": 0.5, "schedule": 0.5 * (1 - number / len(batches))}.get(name, 0.0)
            logits, targets = answer_logits(model, batch)
            loss = torch.nn.functional.cross_entropy(logits, targets)
            masked.probability = 1.0
            if name in ("beside", "beside-high"):
                chosen = [place for place in places if name == "beside" or place in high]
                copies = encoder.collate([samples[place] for place in chosen])
                part = WEIGHT * len(chosen) / len(places)
                loss = (1 - part) * loss + part * torch.nn.functional.cross_entropy(*answer_logits(model, copies))
            if name == "consistency":
                own, other = logits.detach().log_softmax(-1), answer_logits(model, batch)[0].log_softmax(-1)
                apart = torch.nn.functional.kl_div(other, own, log_target=True, reduction="batchmean")
                loss = loss + WEIGHT * apart
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimiser.step()
            rates.step()
            optimiser.zero_grad()
    model.eval()
    return adapter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=list(EPOCHS))
    parser.add_argument("--out", type=Path, default=Path("runs/copies"))
    parser.add_argument("--seed", type=int, default=303, help="of the pool")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tests", type=int, default=800)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    data = make_data("clean", options.out.resolve() / f"pool-{options.seed}", SAMPLES, options.seed, options.tests)
    pool, start = open_pool(data["pool"]), open_model(ModelSpec(START_PATH, device="cpu"))
    run = score(pool, start, options.out / f"run-{options.seed}", engine=EngineSpec(workers=0))
    delta = run.table(["delta_attnmask"])["delta_attnmask"].to_numpy()
    high = set(np.flatnonzero(delta > np.median(delta)).tolist())
    encoder = start.encoder(partial(open_image, root=pool.image_root))
    samples = [encoder.encode(pool[index]) for index in range(len(pool))]
    test = open_pool(data["test"])
    held_out = EncodedData.read(test, start.encoder(partial(open_image, root=test.image_root)))
    found: dict[str, dict[int, dict[str, float]]] = {}
    for seed in range(options.seeds):
        for arm in options.arms:
            file = options.out / f"{options.which}-{options.seed}-{arm}-{seed}.json"
            if not file.exists():
                tasks = evaluate(teach(arm, samples, high, EPOCHS[options.which], seed), held_out).values()
                record = {
                    "accuracy": float(np.mean([task.exact for task in tasks])),
                    "loss": float(np.mean([task.loss for task in tasks])),
                }
                file.write_text(json.dumps(record))
            found.setdefault(arm, {})[seed] = json.loads(file.read_text())
    lines = []
    for arm, runs in found.items():
        exact, losses = ([one[key] for one in runs.values()] for key in ("accuracy", "loss"))
        apart = "" if arm == "none" or "none" not in found else difference(runs, found["none"])
        lines.append([arm, str(len(runs)), spread(exact), spread(losses, 2), apart])
    head = ["arm", "seeds", "exact", "loss", "exact above none"]
    print(f"\n### {options.which}: {SAMPLES} samples, {EPOCHS[options.which]} epochs\n\n{markdown(head, lines)}")


if __name__ == "__main__":
    main()
