"""k-center: the samples that leave no other far away."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("hidden_mean",),
    selector="k_center",
    forwards="1",
    source="k-center greedy (Gonzalez 1985); the pooled hidden state is ours",
    about="Keeps, one after another, what is farthest from all that is kept; so it likes outliers.",
)
