"""Perplexity of the answer: the lowest, the middle, or the highest. The loss is its logarithm, so it ranks the same."""

from vlmsift.methods.method import Method


def _method(pick: str, about: str) -> Method:
    return Method(
        signals=("answer_loss",),
        selector=f"top:by=answer_loss,pick={pick},balance=none",
        forwards="1",
        source="a common baseline",
        about=about,
    )


LOW = _method("lowest", "Keeps the answers that the model finds likeliest.")
MIDDLE = _method("middle", "Keeps the window around the median of the answers' perplexity.")
HIGH = _method("highest", "Keeps the answers that the model finds least likely.")
