"""Many requests of all kinds to the endpoint at once, with faults: `python -m tests.load`."""
