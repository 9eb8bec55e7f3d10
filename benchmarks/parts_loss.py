"""What choosing in random parts loses against choosing from the whole: facility location and k-center.

    python benchmarks/parts_loss.py

Draws pools of 8,000 vectors of width 64 in 200 bundles of very unequal size (3 seeds), and keeps 5 and 20 % of each:
from the whole, in 4 and in 8 parts with the merge (`partitions.in_parts`; at 20 % the shortlist is longer than a part,
and nothing is merged), in 4 and 8 parts without, and at random. Prints, mean and standard deviation over the seeds: for
facility location the mean cosine of each row to its nearest kept row, over all pairs; for k-center the largest distance
of a row to its nearest kept row.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vlmsift.choosing import partitions
from vlmsift.choosing.candidates import Candidates
from vlmsift.choosing.order import seeded_order
from vlmsift.choosing.run_columns import open_columns
from vlmsift.selectors import FacilityLocation, KCenter

ROWS, WIDTH, SEEDS = 8000, 64, 3
Vectors = NDArray[np.float32]


def pool(seed: int) -> tuple[Vectors, Candidates]:
    """Vectors in the candidates' order, and the candidates."""
    draw = np.random.default_rng(seed)
    bundles = draw.standard_normal((200, WIDTH))[draw.zipf(1.3, ROWS) % 200]
    vectors = (bundles + 0.7 * draw.standard_normal((ROWS, WIDTH))).astype(np.float32)
    table = pa.table({"id": [f"s{row}" for row in range(ROWS)], "v": list(vectors)})
    columns = open_columns(table, ["v"])
    order = seeded_order(columns, seed)
    return vectors[order], Candidates(columns, "images", seed, order)


def nearest_cosine(vectors: Vectors, kept: NDArray[np.int64]) -> float:
    units = vectors - vectors.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    pieces = [np.maximum(units[at : at + 1000] @ units[kept].T, 0).max(axis=1) for at in range(0, ROWS, 1000)]
    return float(np.concatenate(pieces).mean())


def largest_distance(vectors: Vectors, kept: NDArray[np.int64]) -> float:
    squares, found = np.square(vectors).sum(axis=1), 0.0
    for at in range(0, ROWS, 1000):
        apart = squares[at : at + 1000, None] + squares[kept] - 2 * vectors[at : at + 1000] @ vectors[kept].T
        found = max(found, float(np.maximum(apart.min(axis=1), 0).max()) ** 0.5)
    return found


def main() -> None:
    print("| selector | keep | whole | 4 parts | 8 parts | 4, no merge | 8, no merge | random |")
    print("|---|---|---|---|---|---|---|---|")
    pools = [pool(seed) for seed in range(SEEDS)]
    for make, measure in ((FacilityLocation, nearest_cosine), (KCenter, largest_distance)):
        for share in (0.05, 0.2):
            budget, cells = int(share * ROWS), []
            for parts, ahead in ((1, 2), (4, 2), (8, 2), (4, 0), (8, 0)):
                partitions.AHEAD = ahead or ROWS  # of a shortlist that would be too long nothing is merged
                chooser = make("v", whole=ROWS, at_once=ROWS // parts)
                cells.append([measure(vectors, chooser(rows, budget).kept) for vectors, rows in pools])
            cells.append([measure(vectors, np.arange(budget)) for vectors, _ in pools])
            shown = " | ".join(f"{np.mean(cell):.3f} ± {np.std(cell):.3f}" for cell in cells)
            print(f"| {make.name} | {share:.0%} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
