"""Facility location: the samples that stand best for all others."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("hidden_mean",),
    selector="facility_location",
    forwards="1",
    source="facility location, lazy greedy; the pooled hidden state is ours",
    about="Keeps the greedy choice that each sample of the pool has something most like it in.",
)
