"""What a device does at a time follows from how many there are."""

import pytest

from depthlab.commands.trainer import ExperimentTrainer
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.errors import UserError
from tests.support import as_rank

PIECES = {  # batch, a device's most, devices -> pieces of a step on each
    (4096, 64, 1): 64,
    (4096, 64, 8): 8,
    (4096, 64, 16): 4,
    (4096, 100, 1): 64,  # pieces are equal
    (4096, None, 8): 1,
    (12, 4, 2): 2,
    (7, 4, 1): 7,
    (2, 8, 4): 1,
}


@pytest.mark.parametrize("case", PIECES)
def test_as_few_pieces_as_fit(case):
    batch_size, most, world_size = case
    module = PretrainingDataModule(batch_size=batch_size, device_batch_size=most)
    pieces = module.pieces(world_size)
    assert pieces == PIECES[case]
    if batch_size % world_size:
        with pytest.raises(UserError, match="cannot be cut"):
            as_rank(module, world_size, accumulate=pieces).split()
    else:
        assert as_rank(module, world_size, accumulate=pieces).split() == (world_size, 0, pieces)


def test_no_device_computes_nothing_at_a_time():
    with pytest.raises(UserError, match="device_batch_size is 0"):
        PretrainingDataModule(device_batch_size=0)


@pytest.mark.parametrize(
    ("given", "pieces", "interval"),
    [
        ({"val_check_interval": 10}, 8, 80),
        ({"val_check_interval": 10, "accumulate_grad_batches": 2}, 2, 20),  # taken as it is
        ({"val_check_interval": 0.5}, 8, 0.5),  # of an epoch
        ({}, 8, 1.0),
    ],
)
def test_the_trainer_counts_optimiser_steps(given, pieces, interval):
    trainer = ExperimentTrainer(accelerator="cpu", logger=False, enable_checkpointing=False, **given)
    trainer.count_steps(PretrainingDataModule(batch_size=32, device_batch_size=4))
    assert (trainer.accumulate_grad_batches, trainer.val_check_interval) == (pieces, interval)
