"""Known-bad twins of a pool's samples: what they are, a pool of them, and what a model's signals make of both."""
