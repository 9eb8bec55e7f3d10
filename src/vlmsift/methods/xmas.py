"""XMAS: samples whose text looks at the image alike all through a fine-tune are redundant."""

from vlmsift.methods.method import Method, Training

METHOD = Method(
    signals=("trajectory=image_spectrum",),
    selector="trajectories",
    forwards="1 per checkpoint",
    source="XMAS (arXiv 2510.01454)",
    about="Follows the five largest singular values of the text-to-image attention over the checkpoints of a fine-tune "
    "on the pool, clusters these trajectories, and keeps the steadiest of each cluster, as many from each. The "
    "decomposition is exact, and attention is the model's own; trajectory=image_spectrum:attention=released is the "
    "code's form. Samples without image are drawn at the same rate. Seven checkpoints, as in the repository's figure.",
    needs="a fine-tune on the pool with checkpoints: one epoch, about 3 forwards per sample; then each is scored",
    training=Training(snapshots=7, changes={"batch_size": 32}),
)
