"""Image gain: the samples whose answer needs the image most."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("image_gain",),
    selector="top:by=image_gain,balance=none",
    forwards="2",
    source="first term of MAGIC",
    about="Keeps the largest rise of the loss on the answer when nothing can see the image; dropping its keys is ours.",
)
