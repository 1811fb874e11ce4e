"""LightningModules: a model, named losses, metrics and an optimiser, for batches from any loaders.

They return and log numbers. What data there is, where a run lies and what is printed of it, they do not know.
"""

from depthlab.tasks.base import Task
from depthlab.tasks.classification import ClassificationTask
from depthlab.tasks.distillation import DistillationTask
from depthlab.tasks.pretraining import PretrainingTask
from depthlab.tasks.retrofit import RetrofitTask
from depthlab.tasks.similarity import SimilarityTask
from depthlab.tasks.treebank import TreebankTask
