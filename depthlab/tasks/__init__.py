"""LightningModules: loss, metrics, optimiser."""

from depthlab.tasks.base import Task
from depthlab.tasks.classification import ClassificationTask
from depthlab.tasks.pretraining import PretrainingTask
from depthlab.tasks.retrofit import RetrofitTask
from depthlab.tasks.treebank import TreebankTask

__all__ = ["ClassificationTask", "PretrainingTask", "RetrofitTask", "Task", "TreebankTask"]
