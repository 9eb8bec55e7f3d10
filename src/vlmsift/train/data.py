"""A pool's samples ready for a model: encoded once, kept in memory, used for any number of trainings.

In: a pool and an encoder. Out: `EncodedData`, whose subsets share the memory, and the samples that cannot be used, each
with its reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch.utils.data import Dataset

from vlmsift.errors import SampleError, UsageError
from vlmsift.models import Adapter, Encoded, Encoder
from vlmsift.pools import Pool
from vlmsift.scoring.feed import Feed

SMALL = 512
"""Fewer rows are encoded in this process: starting others would take longer."""


@dataclass
class _Store:
    """What all subsets of one reading share; the dictionaries, but for `kept`, by sample id."""

    pool: Pool
    encoder: Encoder
    workers: int
    kept: dict[int, Encoded] = field(default_factory=dict)  # pool row -> encoded sample, as far as they fit in memory
    rows: dict[str, int] = field(default_factory=dict)  # of the usable samples, as are lengths (tokens) and has_image
    lengths: dict[str, int] = field(default_factory=dict)
    has_image: dict[str, bool] = field(default_factory=dict)
    sources: dict[str, str | None] = field(default_factory=dict)  # of all samples: their tasks
    reasons: dict[str, str] = field(default_factory=dict)  # of the unusable ones
    pool_digest: str = ""  # made when it is first asked for

    def fill(self, indices: Sequence[int], cache_bytes: int) -> None:
        """Encode the rows; keep the first ones that `cache_bytes` can hold."""
        free = cache_bytes
        for item in Feed(self.pool, self.encoder, indices, self.workers):
            name, encoded = item.facts["id"], item.encoded
            self.sources[name] = item.facts["source"]
            if encoded is None:
                self.reasons[name] = item.reason or "unknown"
                continue
            self.rows[name], self.lengths[name] = item.index, len(encoded)
            self.has_image[name] = bool((encoded.image_index >= 0).any())
            free -= encoded.nbytes
            if free >= 0:
                self.kept[item.index] = encoded

    def encoded(self, row: int) -> Encoded:
        """The sample in that pool row, from memory or encoded again."""
        return self.kept[row] if row in self.kept else self.encoder.encode(self.pool[row])


class EncodedData(Dataset[Encoded]):
    """Samples ready for a model, with what could not be used beside them. Made by `read`."""

    def __init__(self, store: _Store, ids: Iterable[str], skipped: Mapping[str, str]) -> None:
        self._store = store
        self.pool, self.encoder, self.workers = store.pool, store.encoder, store.workers  # those of `read`
        self.ids: Sequence[str] = tuple(ids)  # the usable samples, in the order asked for
        self.skipped: Mapping[str, str] = dict(skipped)  # id -> reason, of the samples that cannot be encoded
        self.lengths: Sequence[int] = [store.lengths[name] for name in self.ids]  # tokens
        self.has_image: Sequence[bool] = [store.has_image[name] for name in self.ids]
        self.sources: Sequence[str | None] = [store.sources[name] for name in self.ids]  # tasks, None = it has none

    @classmethod
    def read(
        cls,
        pool: Pool,
        encoder: Encoder,
        indices: Sequence[int] | None = None,
        *,
        workers: int | None = None,
        cache_bytes: int = 1 << 30,
    ) -> EncodedData:
        """Encode the pool's rows `indices` (all by default), each once.

        Args:
            workers: processes that read and encode; 0 = this one; None = all cores but one, 0 where rows are few.
            cache_bytes: memory for encoded samples; those beyond are encoded again whenever they are used.

        Raises:
            UsageError: there are no rows, or not one of them can be encoded.
        """
        indices = range(len(pool)) if indices is None else list(indices)
        if workers is None:
            workers = 0 if len(indices) < SMALL else min(8, max(1, (os.cpu_count() or 2) - 1))
        if workers < 0:
            raise UsageError(f"workers={workers} must be 0 (read and encode in this process) or more")
        store = _Store(pool, encoder, workers)
        store.fill(indices, cache_bytes)
        if not store.rows:
            why = next((f"{name!r}: {reason}" for name, reason in store.reasons.items()), "it has no rows")
            raise UsageError(
                f"{pool.path}: not one of {len(indices)} samples can be used ({why}). Images are looked for in "
                f"{pool.image_root}; `vlmsift check` says more about samples and model"
            )
        return cls(store, store.rows, store.reasons)

    def subset(self, ids: Iterable[str]) -> EncodedData:
        """The samples `ids`, in that order, with the same memory; unusable ones among them stay skipped.

        Raises UsageError for an id that was not read, or one that is named twice.
        """
        wanted, known = list(ids), set(self.ids)
        if unknown := [name for name in wanted if name not in known and name not in self.skipped]:
            raise UsageError(
                f"{len(unknown)} of {len(wanted)} ids are not in {self.pool.path}, e.g. {unknown[0]!r}; name ids of "
                "the samples that were read"
            )
        if len(set(wanted)) < len(wanted):
            twice = next(name for place, name in enumerate(wanted) if name in wanted[:place])
            raise UsageError(f"the id {twice!r} is named twice; name each sample once")
        skipped = {name: self.skipped[name] for name in wanted if name in self.skipped}
        return EncodedData(self._store, (name for name in wanted if name in known), skipped)

    def without_longer_than(self, most: int) -> EncodedData:
        """The samples of at most `most` tokens; the others are skipped, never cut: a cut could fall in an image."""
        long = {
            name: f"too long: {length} tokens, the recipe allows {most}"
            for name, length in zip(self.ids, self.lengths, strict=True)
            if length > most
        }
        if not long:
            return self
        return EncodedData(self._store, (name for name in self.ids if name not in long), {**self.skipped, **long})

    @property
    def in_memory(self) -> bool:
        """Whether every sample is kept, so that worker processes have nothing to do."""
        return all(self._store.rows[name] in self._store.kept for name in self.ids)

    def source_of(self, name: str) -> str | None:
        """The task of any sample that was read, usable or not."""
        return self._store.sources[name]

    def refuse_other_encoder(self, adapter: Adapter) -> None:
        """Raises UsageError where the samples were encoded for a model with other tokens or another template."""
        theirs, ours = self.encoder.processor, adapter.processor
        same = theirs is ours or (
            type(theirs) is type(ours)
            and getattr(theirs, "chat_template", None) == getattr(ours, "chat_template", None)
            and theirs.tokenizer.get_vocab() == ours.tokenizer.get_vocab()
        )
        if not same:
            raise UsageError(f"the samples were encoded for another model than {adapter.name!r}; encode them for it")

    def fingerprint(self) -> dict[str, str]:
        """sha256 (hex) of the pool's bytes, and of the usable ids in their order."""
        if not self._store.pool_digest:
            self._store.pool_digest = self.pool.fingerprint()
        ids = hashlib.sha256("\0".join(self.ids).encode("utf-8", "surrogatepass")).hexdigest()
        return {"pool": self._store.pool_digest, "ids": ids}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> Encoded:
        name = self.ids[place]
        try:
            return self._store.encoded(self._store.rows[name])
        except SampleError as error:  # it could be encoded before: the pool or its images have changed since
            raise UsageError(
                f"sample {name!r} could be read before, and now cannot ({error}); leave {self.pool.path} and its "
                "images as they are while they are in use"
            ) from error
