"""Our tasks on somebody else's batches, without a data module."""

import pytest
import torch
from torch.utils.data import DataLoader

from depthlab.models import AdaptiveAlbertConfig
from depthlab.tasks import ClassificationTask, PretrainingTask
from tests.models.conftest import SIZES
from tests.support import quiet_trainer, write_checkpoint

LABELS = {"labels": lambda ids: ids.where(ids % 5 == 0, -100), "sentence_order_label": lambda ids: ids[:, 0] % 2}
"""Of pre-training, made of the ids."""


def batches(**labels):
    ids = torch.randint(5, SIZES["vocab_size"], (8, 9))
    columns = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": 0 * ids}
    columns |= {"index": torch.arange(8)} | {name: make(ids) for name, make in labels.items()}
    return DataLoader([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], 4)


def fit(task, *loaders):
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(task, *loaders)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_pretraining():
    data = batches(**LABELS)
    values = fit(PretrainingTask(AdaptiveAlbertConfig(**SIZES), warmup_steps=0), data, data)
    parts = values["val/loss/mlm"] + values["val/loss/sop"] + 5e-4 * values["val/loss/ponder"]
    assert values["val/loss/total"] == pytest.approx(parts)


def test_classification_with_two_validation_sets(tmp_path):
    data = batches(labels=lambda ids: ids[:, 0] % 2)
    task = ClassificationTask("parity", ["even", "odd"], ["accuracy"], str(write_checkpoint(tmp_path)), warmup_steps=0)
    values = fit(task, data, [data, data])
    assert 0 <= values["val/score"] <= 1 and "val/depth/label/odd" in values
