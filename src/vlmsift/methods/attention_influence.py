"""AttentionInfluence: the samples whose answer suffers most when the heads that look things up no longer can."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("attention_influence",),
    selector="top:by=attention_influence,balance=source",
    forwards="1 + (L - first such head's layer) / L",
    source="AttentionInfluence (arXiv 2505.07293)",
    about="Keeps the largest relative rise of the loss with uniform attention in the retrieval heads, sources apart, "
    "as the paper compares within a domain only. The heads are found once by text needles and stand in the run's "
    "settings (heads=12.3+14.0 uses them again); attention_influence:needle=image looks for them in images, ours.",
    needs="800 probes once per model, each a forward of up to 4,096 tokens",
)
