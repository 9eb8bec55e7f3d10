"""Ways to run the measuring: here in one process; more to come."""
