"""COINCIDE: clusters of like concepts and skills, more from those that transfer and are sparse."""

from vlmsift.methods.method import Method

METHOD = Method(
    signals=("concept_states",),
    selector="coincide",
    forwards="1",
    source="COINCIDE (arXiv 2406.10995)",
    about="Clusters the attention outputs of five layers, shares the budget by how like the others and how sparse a "
    "cluster is, and inside keeps what mirrors it. The released code stops after the last of the five layers; here "
    "the forward is whole, and the vectors are projected to 1,024 numbers.",
)
