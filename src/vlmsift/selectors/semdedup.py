"""Drop what is nearly the same as a sample that comes before it in its cluster: SemDeDup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from vlmsift.choosing.candidates import Candidates, Choice, Selector
from vlmsift.choosing.clusters import one_thread
from vlmsift.choosing.groups import Groups
from vlmsift.choosing.nearest_kept import ids_of, named
from vlmsift.choosing.quota import best_of_groups
from vlmsift.choosing.spherical import Clusters, spherical_k_means, to_units
from vlmsift.choosing.words import either, joined, shown
from vlmsift.errors import UsageError
from vlmsift.parameters import Count

_ROWS = 1024  # of a similarity matrix held at a time
_DIGITS = 6  # of a similarity; float32 says no more, and equal samples shall tie


class Likes(NamedTuple):
    """What each of N rows is most like among those that come EARLIER in its cluster."""

    codes: NDArray[np.int64]  # (N,), its cluster
    similarity: NDArray[np.float64]  # (N,), the largest cosine to an earlier row; -inf for the first
    earlier: NDArray[np.int64]  # (N,), which row that is; itself if first


@dataclass(frozen=True)
class SemDeDup(Selector):
    """Within clusters by direction, a sample goes whose cosine to an earlier one of its cluster is above 1 - eps.

    Without `eps`, it is solved so that exactly the budget is left (the published runs tune it by hand and cut off the
    rest): as "earlier" counts dropped samples too, those of least similarity stay whatever eps is; ties fall by seed.
    A budget below the number of clusters draws among the clusters' first samples. Source: SemDeDup (arXiv 2303.09540)
    as run for VLMs by COINCIDE (arXiv 2406.10995), which clusters text-only samples among the others; here they are a
    stratum of their own (see `selecting.select`), so none is held against a sample with an image.

    Attributes:
        vector: the signal, (N, K); normalised here.
        clusters: how many; None = one per 66 rows, up to 10,000, and at least sqrt(N / 2). More than there are rows
            means the same.
        keep_first: who comes first in a cluster: "hard", far from the centre, or "easy", near to it.
        eps: 0 to 2. Given: all who survive are equal, and a random part of them is kept; if the budget asks for more,
            the dropped ones of least similarity come back.
    """

    vector: str = "last_state"
    clusters: Count | None = None
    keep_first: Literal["hard", "easy"] = "hard"
    eps: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    name: ClassVar[str] = "semdedup"

    @property
    def _bound(self) -> float:
        return round(1 - (0.0 if self.eps is None else self.eps), _DIGITS)

    def check_clean(self) -> None:
        """Raise UsageError without `eps`: then nothing says what is too similar."""
        if self.eps is None:
            cure = "Give eps, such as semdedup:eps=0.05, or a share or a count, for which eps is solved."
            raise UsageError(f"keep='clean' cannot be meant with eps=None: nothing says what is too similar. {cure}")

    def survivors(self, candidates: Candidates) -> int:
        """How many rows `eps` leaves."""
        self.check_clean()
        return int(np.sum(candidates.once(self._likes).similarity <= self._bound))

    def __call__(self, candidates: Candidates, budget: int) -> Choice:
        likes, count = candidates.once(self._likes), len(candidates)
        badness = likes.similarity if self.eps is None else np.maximum(likes.similarity, self._bound)
        everyone = Groups(np.zeros(count, np.int64), [candidates.stratum], {})
        kept = best_of_groups(badness, everyone, np.array([budget])).kept
        # a dropped row's keeper: the nearest earlier one, or that one's keeper if it was dropped itself
        keeps = np.zeros(count, np.bool_)
        keeps[kept] = True
        keeper = np.where(keeps, np.arange(count), likes.earlier)
        while (farther := keeper[keeper] != keeper).any():
            keeper[farther] = keeper[keeper[farther]]
        bound = float(np.max(badness[kept], initial=-1.0))
        like = named(candidates, "similarity", likes.similarity, likes.earlier)
        ids = ids_of(candidates, keeper)
        beaten = joined(like, f" is not below {bound:.6g}; its keeper is '", ids, "'")
        clusters = shown(likes.codes)
        nobody = joined("the budget ends before cluster ", clusters, " keeps one")
        over = f"survives, but the budget of {budget} is full"
        spare = np.isfinite(likes.similarity) & (likes.similarity <= bound) & (self.eps is not None)
        reasons = either(spare, over, either(keeps[keeper], beaten, nobody))
        details = {"clusters_found": int(likes.codes.max()) + 1, "keeps_up_to_similarity": bound, "eps": 1 - bound}
        return Choice(kept, joined("cluster ", clusters), reasons, details)

    def _likes(self, candidates: Candidates) -> Likes:
        units = to_units(candidates.vector(self.vector))  # (N, K)
        found = spherical_k_means(units, self.clusters, candidates.seed)
        with one_thread():
            return self._compared(units, found)

    def _compared(self, units: NDArray[np.float32], found: Clusters) -> Likes:
        similarity = np.full(len(units), -np.inf)
        earlier = np.arange(len(units))
        for code, rows in enumerate(found.members()):
            to_centre = np.round(units[rows] @ found.centres[code], _DIGITS)  # (n,)
            rows = rows[np.argsort(to_centre if self.keep_first == "hard" else -to_centre, kind="stable")]
            points = units[rows]
            for start in range(0, len(rows), _ROWS):
                part = points[start : start + _ROWS]
                cosines = part @ points[: start + len(part)].T  # (rows, rows before and these)
                cosines[np.triu_indices(len(part), start, start + len(part))] = -np.inf  # itself and later ones
                nearest = np.argmax(cosines, axis=1)  # (rows,)
                own = rows[start : start + len(part)]
                similarity[own] = np.round(cosines[np.arange(len(part)), nearest].astype(np.float64), _DIGITS)
                earlier[own] = rows[nearest]
            earlier[rows[0]] = rows[0]
        return Likes(found.codes, similarity, earlier)
