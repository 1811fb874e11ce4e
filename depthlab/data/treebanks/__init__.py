"""Annotated sentences: CoNLL-U and brackets, which word each piece belongs to, the data module.

Not here: tasks that are made of treebanks (benchmarks/), and means over labels (analysis/).
"""
