"""`depthlab sweep`: a grid of settings, every cell a fit, on any number of workers."""

from depthlab.sweep.command import sweep

__all__ = ["sweep"]
