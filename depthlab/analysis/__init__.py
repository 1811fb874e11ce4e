"""Frames in, frames out: what runs and tables hold, who is compared with whom, statistics.

Not here: tables and figures of a page (`reports`), how they look (`render`).
"""
