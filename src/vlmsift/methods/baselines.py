"""What every method has to beat: the longest answers, a draw, and everything."""

from dataclasses import replace

from vlmsift.methods.method import Method

LENGTH = Method(
    signals=("answer_tokens",),
    selector="top:by=answer_tokens,balance=none",
    forwards="0",
    source="a common baseline",
    about="Keeps the longest answers.",
)

RANDOM = Method(
    signals=(),
    selector="random",
    forwards="0",
    source="the baseline of every table",
    about="Draws uniformly among the samples that the model can read.",
)

FULL = replace(RANDOM, about="Keeps every sample that the model can read. With a budget it is `random`.", keep="clean")
