"""EL2N: the samples whose tokens the model predicts worst."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("el2n",),
    selector="top:by=el2n,balance=none",
    forwards="1",
    source="EL2N (Paul et al. 2021), as run for VLMs by COINCIDE",
    about="Keeps the largest mean error norm of the answer's tokens, of one checkpoint. The end that published VLM "
    "tables kept is not stated; --selector top:by=el2n,pick=lowest,balance=none is the other.",
)
