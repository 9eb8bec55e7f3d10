"""Measure: a forward that is looked into, and the decoder run again from a depth on changed states."""
