"""The table of methods: named recipes of signals, selector and defaults. `vlmsift sift --method NAME` runs one.

A new method is one short file beside this one and one line in `METHODS`.
"""

from __future__ import annotations

from vlmsift.errors import UsageError
from vlmsift.methods import (
    attention_influence,
    baselines,
    bye,
    coincide,
    delta_attnmask,
    el2n,
    facility_location,
    ifd,
    image_gain,
    k_center,
    perplexity,
    s2l,
    semdedup,
    xmas,
)
from vlmsift.methods.method import Method, Training
from vlmsift.methods.sifting import sift

METHODS: dict[str, Method] = {
    "delta-attnmask": delta_attnmask.METHOD,
    "delta-attnmask-plain": delta_attnmask.PLAIN,
    "xmas": xmas.METHOD,
    "attention-influence": attention_influence.METHOD,
    "bye": bye.METHOD,
    "coincide": coincide.METHOD,
    "s2l": s2l.METHOD,
    "semdedup": semdedup.METHOD,
    "ifd": ifd.METHOD,
    "el2n": el2n.METHOD,
    "perplexity-low": perplexity.LOW,
    "perplexity-middle": perplexity.MIDDLE,
    "perplexity-high": perplexity.HIGH,
    "image-gain": image_gain.METHOD,
    "facility-location": facility_location.METHOD,
    "k-center": k_center.METHOD,
    "length": baselines.LENGTH,
    "random": baselines.RANDOM,
    "full": baselines.FULL,
}

__all__ = ["METHODS", "Method", "Training", "find_method", "sift"]


def find_method(name: str) -> Method:
    """The method of that name. Raises UsageError naming the others."""
    if name not in METHODS:
        raise UsageError(f"there is no method {name!r}; choose among {', '.join(METHODS)}")
    return METHODS[name]
