"""S2L: samples whose loss falls alike all through a fine-tune are redundant."""

from vlmsift.methods.method import Method, Training

METHOD = Method(
    signals=("trajectory=answer_loss",),
    selector="trajectories:inside=random,balance=source",
    forwards="1 per checkpoint",
    source="S2L (arXiv 2403.07384)",
    about="Follows the loss on the answer over the checkpoints of a fine-tune on the pool, clusters these "
    "trajectories, and draws as many from each cluster, sources apart.",
    needs="a fine-tune on the pool with checkpoints: one epoch, about 3 forwards per sample; then each is scored",
    training=Training(snapshots=7, changes={"batch_size": 32}),
)
