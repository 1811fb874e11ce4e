"""The run directory, of whose names nobody else knows, its configuration, and sweeps of runs.

Not here: what is trained or measured in a run.
"""
