"""A pool and a model -> a run: checked, fed by worker processes, measured batch by batch, written part by part."""
