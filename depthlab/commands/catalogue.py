"""The experiments that there are."""

from typing import NamedTuple

from lightning.pytorch import Callback, LightningDataModule, LightningModule

from depthlab.callbacks import TokenTable
from depthlab.data.benchmarks.glue import GlueDataModule
from depthlab.data.benchmarks.own import OwnDataModule
from depthlab.data.benchmarks.probing import ProbingDataModule
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.corpora.sentence_batches import SentenceDataModule
from depthlab.data.treebanks.treebank import TreebankDataModule
from depthlab.tasks import (
    ClassificationTask,
    DistillationTask,
    PretrainingTask,
    RetrofitTask,
    SimilarityTask,
    TreebankTask,
)

STEPS = {"fit": "training_step", "validate": "validation_step", "test": "test_step", "predict": "predict_step"}
"""What a LightningModule needs for a command."""


class Experiment(NamedTuple):
    """What an experiment can be."""

    task: type[LightningModule]
    data: type[LightningDataModule]
    table: type[Callback] | None = None
    """What makes a table of the predictions, its arguments being options; without one they go into files."""

    @property
    def is_trained(self) -> bool:
        """Whether there are runs of it; otherwise its task only looks at a model."""
        return "fit" in self.commands()

    def commands(self) -> list[str]:
        """Those of `STEPS` that there is something to do for."""
        return [name for name, step in STEPS.items() if getattr(self.task, step) is not getattr(LightningModule, step)]


EXPERIMENTS = {
    "pretraining": Experiment(PretrainingTask, PretrainingDataModule),
    "retrofit": Experiment(RetrofitTask, PretrainingDataModule),
    "distillation": Experiment(DistillationTask, SentenceDataModule),
    "similarity": Experiment(SimilarityTask, GlueDataModule),
    "glue": Experiment(ClassificationTask, GlueDataModule),
    "probing": Experiment(ClassificationTask, ProbingDataModule),
    "own": Experiment(ClassificationTask, OwnDataModule),
    "treebank": Experiment(TreebankTask, TreebankDataModule, TokenTable),
}
"""By `task` in their YAML."""
