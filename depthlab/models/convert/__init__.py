"""Models of others become ours: reading, tying, factorising, and the conversion that puts them together.

What is checked here is weights and sizes. Where the result goes, and how it is shown, is the command's business.
"""
