"""Sweeps: the cells of a grid, what their directory says of them, and the workers that run them.

Not here: what a setting means, or the data it needs; both come in from the command.
"""
