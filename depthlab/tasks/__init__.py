"""LightningModules: loss, metrics, optimiser."""

from depthlab.tasks.pretraining import PretrainingTask
from depthlab.tasks.retrofit import RetrofitTask

__all__ = ["PretrainingTask", "RetrofitTask"]
