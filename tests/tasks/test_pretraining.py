"""What a pre-training task knows of the run that it evaluates."""

import pytest

from depthlab.models import AdaptiveAlbertConfig
from depthlab.tasks import PretrainingTask
from tests.models.conftest import SIZES
from tests.support import quiet_trainer


def test_the_time_penalty_is_that_of_the_checkpoints_step():
    """A trainer that only evaluates has made no step of its own."""
    config = AdaptiveAlbertConfig(**SIZES, time_penalty=0.5)
    trained, evaluated = (PretrainingTask(config, fixed_depth_steps=3, time_penalty_warmup_steps=10) for _ in range(2))
    checkpoint = {"global_step": 7, "state_dict": trained.state_dict()}
    trained.trainer, evaluated.trainer = quiet_trainer(), quiet_trainer()
    trained.on_save_checkpoint(checkpoint)
    evaluated.on_load_checkpoint(checkpoint)
    assert trained.time_penalty == 0
    assert evaluated.time_penalty == pytest.approx(0.5 * 5 / 10)
