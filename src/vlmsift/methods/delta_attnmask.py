"""Delta-AttnMask: the samples whose answer suffers most when the most attended states are masked."""

from vlmsift.methods.method import Method

_SOURCE = "Delta-AttnMask (arXiv 2508.09199)"

METHOD = Method(
    # the vector lets `balance="auto"` fall back on clusters where answers are open
    signals=("delta_attnmask", "answer_loss", "hidden_mean"),
    selector="top:by=delta_attnmask",
    forwards="1 + (L - d) / L",
    source=f"{_SOURCE}; the balance is ours",
    about="Keeps the largest rise of the loss on the answer, each answer or cluster of samples by its share.",
)

PLAIN = Method(
    signals=("delta_attnmask", "answer_loss"),
    selector="top:by=delta_attnmask,balance=none",
    forwards="1 + (L - d) / L",
    source=_SOURCE,
    about="Keeps the largest rise of the loss on the answer, over the whole pool.",
)
