"""In which order samples are learnt from. In: lengths, modality and a seed. Out: places in the data, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class Order(Sampler[int]):
    """The places of all samples of a training, one after another: epoch after epoch, each sample once in each.

    Every `batch_size` of them make an optimiser step. A step that an epoch cannot fill is filled from the next, so
    only the very last one can hold fewer.

    Attributes:
        lengths, has_image: of each sample.
        total: places to give; the last epoch may be a part of one, drawn at random.
        grouped: a step holds samples with an image, or samples without, except where the epoch's remainders meet, and
            they are sorted, longest first, so that its forwards hold like lengths. The idea is LLaVA's; which samples
            of a kind meet in a step stays random.
    """

    def __init__(
        self, lengths: Sequence[int], has_image: Sequence[bool], batch_size: int, total: int, seed: int, grouped: bool
    ) -> None:
        self.lengths, self.has_image = lengths, has_image
        self.batch_size, self.total, self.seed, self.grouped = batch_size, total, seed, grouped

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        for step in self.steps():
            yield from step

    def steps(self) -> Iterator[list[int]]:
        """The optimiser steps: full ones, and last the one that cannot be filled, if there is one."""
        generator = torch.Generator().manual_seed(self.seed)
        open_step: list[int] = []
        seen = 0
        while seen < self.total:
            epoch: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
            if self.total - seen < len(epoch):  # a part of an epoch: a random part, as it would be without grouping
                epoch = epoch[: self.total - seen]
            seen += len(epoch)
            missing = self.batch_size - len(open_step) if open_step else 0
            open_step, epoch = open_step + epoch[:missing], epoch[missing:]
            if len(open_step) == self.batch_size:
                yield self._sorted(open_step)
                open_step = []
            full, rest = self._full_steps(epoch, generator)
            yield from full
            open_step += rest
        if open_step:
            yield self._sorted(open_step)

    def _full_steps(self, epoch: list[int], generator: torch.Generator) -> tuple[list[list[int]], list[int]]:
        """As many full steps as there are, in random order, and the samples that remain."""
        kinds = [[place for place in epoch if self.has_image[place] is kind] for kind in (True, False)]
        steps: list[list[int]] = []
        rest: list[int] = []
        for places in kinds if self.grouped else [epoch]:
            whole = len(places) - len(places) % self.batch_size
            steps += [places[start : start + self.batch_size] for start in range(0, whole, self.batch_size)]
            rest += places[whole:]
        mixed: list[int] = torch.randperm(len(steps), generator=generator).tolist()
        steps = [steps[number] for number in mixed]
        if len(rest) >= self.batch_size:  # both kinds' remainders together fill one more
            steps, rest = [*steps, rest[: self.batch_size]], rest[self.batch_size :]
        return [self._sorted(step) for step in steps], rest

    def _sorted(self, step: list[int]) -> list[int]:
        return sorted(step, key=lambda place: -self.lengths[place]) if self.grouped else step
