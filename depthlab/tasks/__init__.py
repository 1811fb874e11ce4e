"""LightningModules: loss, metrics, optimiser."""

from depthlab.tasks.pretraining import PretrainingTask

__all__ = ["PretrainingTask"]
