"""A run as a page to look at. In: a run, its selections and its pool. Out: one HTML file that needs nothing else."""
