"""IFD: the samples whose prompt helps least, but does help."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("ifd",),
    selector="top:by=ifd,balance=none,ceiling=1.0",
    forwards="2",
    source="IFD, Cherry LLM (arXiv 2308.12032)",
    about="Keeps the highest ratio of the loss with to the loss without the prompt; ratios above 1 mislead and come "
    "last. The image counts to the prompt (ifd:image=seen leaves it in both). Without the source's warm-up on a few "
    "hundred samples.",
)
