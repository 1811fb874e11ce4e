"""A file a command: its arguments, what it prints, how it exits; and what several commands share.

Not here: what a command computes, reads or draws. `depthlab.cli` finds commands by name.
"""
