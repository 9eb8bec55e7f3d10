"""SemDeDup: of samples with nearly the same last state, one stays."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("last_state",),
    selector="semdedup",
    forwards="1",
    source="SemDeDup (arXiv 2303.09540), as run for VLMs by COINCIDE",
    about="Drops what is most like an earlier sample of its cluster, until the budget is left; the published runs find "
    "that threshold by hand. semdedup:eps=0.05 with keep=clean drops by the threshold instead.",
)
