"""A pool and a model -> a run folder of signals: the names of scoring."""

from __future__ import annotations

from vlmsift.scoring.score import PART_SIZE, Progress, check_resumable, fingerprint_images, score

__all__ = ["PART_SIZE", "Progress", "check_resumable", "fingerprint_images", "score"]
