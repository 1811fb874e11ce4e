"""A run that is interrupted and resumed sees what an uninterrupted one sees, in real Lightning trainers."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

# Lightning 2.6.6 on torch 2.13.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
STEPS = 3  # of an epoch, the last one smaller


class Recorder(LightningModule):
    """Keeps what every optimiser step has seen: the input ids of its micro-batches, and their count of predictions."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.pending, self.steps = [], []

    def training_step(self, batch):
        self.pending.append((batch["input_ids"].tolist(), int(batch["window_predicted"])))
        return (self.weight * batch["labels"].float().mean()).sum()

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.steps.append(self.pending)
        self.pending = []

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Saves a checkpoint in one hook, at one of its calls, and ends the run there."""

    def __init__(self, path: Path, hook: str, call: int):
        self.path, self.calls_left = path, call
        setattr(self, hook, self.count)

    def count(self, trainer, *args):
        self.calls_left -= 1
        if self.calls_left == 0:
            trainer.save_checkpoint(self.path)
            raise InterruptedRun


class InterruptedRun(Exception):
    pass


def fit(module, limits: dict, accumulate: int = 2, callbacks=(), ckpt_path=None) -> list:
    recorder = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **limits,
    )
    if callbacks:
        with pytest.raises(InterruptedRun):
            trainer.fit(recorder, datamodule=module)
    else:
        trainer.fit(recorder, datamodule=module, ckpt_path=ckpt_path, weights_only=False if ckpt_path else None)
        assert trainer.global_step == 3 * STEPS
    return recorder.steps


def big_batches(make_module, **settings):
    """A module whose epoch has STEPS steps, the last one smaller."""
    samples = make_module().summary["train_chunks"]
    batch_size = samples // (STEPS - 1) // 4 * 4 - 20
    return lambda: make_module(set_up=False, batch_size=batch_size, **settings)


LIMITS = {
    "epochs": {"max_epochs": 3, "limit_val_batches": 0},
    "steps": {"max_steps": 3 * STEPS, "max_epochs": -1, "limit_val_batches": 0},
    "epochs with validation": {"max_epochs": 3},
    "steps with validation": {"max_steps": 3 * STEPS, "max_epochs": -1, "val_check_interval": 1.0},
    "validation by steps": {
        "max_steps": 3 * STEPS,
        "max_epochs": -1,
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
    },
}


SAVES = {
    "on_train_batch_end": [1, 2, 5, 6, 7, 8],  # inside a window and at its end, of epoch and run
    "on_train_batch_start": [1, 6, 7],
    "on_train_epoch_end": [1],
    "on_train_epoch_start": [2],
    "on_validation_end": [1],
}


@pytest.mark.parametrize(
    ("limits", "hook"),
    [
        pytest.param(limits, hook, id=f"{name}, {hook}")
        for name, limits in LIMITS.items()
        for hook in SAVES
        if hook != "on_validation_end" or limits.get("limit_val_batches") != 0
    ],
)
def test_resumed_run_sees_the_same_steps(make_module, tmp_path, limits, hook):
    make = big_batches(make_module)
    whole = fit(make(), limits)
    assert len(whole) == 3 * STEPS
    assert len(whole[STEPS - 1][0][0]) < len(whole[0][0][0])  # the last step of an epoch is smaller
    for call in SAVES[hook]:
        before = fit(make(), limits, callbacks=[SaveAt(tmp_path / "x.ckpt", hook, call)])
        after = fit(make(), limits, ckpt_path=tmp_path / "x.ckpt")
        assert before + after == whole, f"call {call}"


def test_workers_change_nothing(make_module, tmp_path):
    """Prefetching workers have read ahead of the checkpoint, across the end of the epoch too."""
    whole = fit(big_batches(make_module)(), LIMITS["steps with validation"])
    make = big_batches(make_module, num_workers=2)
    before = fit(make(), LIMITS["steps"], callbacks=[SaveAt(tmp_path / "x.ckpt", "on_train_batch_end", 4)])
    after = fit(make(), LIMITS["steps"], ckpt_path=tmp_path / "x.ckpt")
    assert before + after == whole


@pytest.mark.parametrize("call", [3, 4, 6, 8])
def test_resume_with_another_accumulation(make_module, tmp_path, call):
    """The same steps, cut into more pieces: a machine with less memory can take over."""
    make = big_batches(make_module)

    def unpadded(steps):
        return [[[i for i in ids if i] for micro_batch, _ in step for ids in micro_batch] for step in steps]

    whole = fit(make(), LIMITS["steps"])
    before = fit(make(), LIMITS["steps"], callbacks=[SaveAt(tmp_path / "x.ckpt", "on_train_batch_end", call)])
    after = fit(make(), LIMITS["steps"], accumulate=4, ckpt_path=tmp_path / "x.ckpt")
    assert all(len(step) == 4 for step in after)
    assert unpadded(before + after) == unpadded(whole)
