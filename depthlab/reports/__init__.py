"""Frames and records in, blocks of a page out: tables with captions, beside the paper's numbers.

Not here: reading and statistics (`analysis`), looks (`render`), arguments of commands (`commands`).
"""
