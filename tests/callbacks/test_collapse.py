"""Depth that has collapsed is told once; depth that only stands still is not."""

from dataclasses import dataclass

import pytest
import torch

from depthlab.callbacks import DepthCollapse
from depthlab.callbacks.collapse import AT_ONCE, AT_THE_CAP, NO_GRADIENT
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.halting import HaltingRule, HaltingStep, register
from depthlab.tasks import PretrainingTask
from tests.models.conftest import SIZES
from tests.support import quiet_trainer
from tests.tasks.test_any_loader import LABELS, batches


@register("at_once")
@dataclass(frozen=True)
class AtOnce(HaltingRule):
    """One iteration for all; it learns nothing."""

    def step(self, state, look):
        weight = torch.ones(look.new.shape[:-1])
        return HaltingStep(weight, halted=weight > 0)


CASES = {
    "stops at once": ({"halting_bias_init": 20.0}, {}, {AT_ONCE, NO_GRADIENT}),
    "never stops": ({"halting_bias_init": -12.0}, {}, {AT_THE_CAP}),
    "chooses": ({}, {}, set()),
    "fixed": ({"halting": "fixed"}, {}, set()),
    "held": ({"halting_bias_init": 20.0}, {"fixed_depth_steps": 99}, set()),
    "not held for long": ({"halting_bias_init": 20.0}, {"fixed_depth_steps": 8}, set()),
    "cap of 1": ({"num_hidden_layers": 1}, {}, set()),
    "without a unit": ({"halting": "at_once"}, {}, {AT_ONCE}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_told_of_depth(case, monkeypatch, caplog):
    settings, of_task, expected = CASES[case]
    monkeypatch.setattr("depthlab.callbacks.collapse.STEPS", 4)
    torch.manual_seed(0)
    data = batches(**LABELS)
    collapse = DepthCollapse()
    task = PretrainingTask(AdaptiveAlbertConfig(**SIZES | settings), warmup_steps=0, **of_task)
    quiet_trainer(max_epochs=5, callbacks=[collapse], log_every_n_steps=2).fit(task, data, data)
    assert collapse.said == dict.fromkeys(expected, 4)
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Depth: ")]
    assert len(told) == len(expected)
    for text in expected:
        (line,) = (line for line in told if text in line)
        assert line.startswith("Depth: for 4 steps, up to step 4, ")
        assert ("the halting rule decide" in line) == (settings.get("halting") == "at_once")
