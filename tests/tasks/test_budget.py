"""Budgets of steps and of time: where the learning rate falls, and that a run that is stopped goes on with both."""

import time

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Timer
from torch import nn

from depthlab.errors import UserError
from depthlab.tasks import Task
from depthlab.tasks.losses import Loss
from tests.support import quiet_trainer

WARMUP, PEAK = 3, 0.5


class Squares(Task):
    """The smallest task: one linear unit whose outputs are to be 0."""

    cap = None
    time_penalty = 0.0

    def __init__(self, decay_share: float) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(2, 1), lambda groups: torch.optim.SGD(groups, lr=PEAK), WARMUP, decay_share)

    def run_model(self, batch):
        return {"out": self.model(batch["x"])}

    def losses(self, batch, outputs):
        return {"square": Loss(outputs["out"].square().mean(dim=1))}

    def on_save_checkpoint(self, checkpoint) -> None: ...

    def on_load_checkpoint(self, checkpoint) -> None: ...


class Clock(Callback):
    """Moves the clock by so many seconds a batch, notes the learning rate of each, and saves once."""

    def __init__(self, monkeypatch, seconds: float = 0.0, save_at: int | None = None, path=None) -> None:
        self.now, self.seconds, self.save_at, self.path = 1000.0, seconds, save_at, path
        self.rates: list[float] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.now += self.seconds
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.path)


def fit(clock: Clock, share: float, ckpt_path=None, **budget) -> Squares:
    task = Squares(share)
    batches = [{"x": torch.ones(1, 2)}] * 40
    trainer = quiet_trainer(callbacks=[clock], **budget)
    trainer.fit(task, torch.utils.data.DataLoader(batches, batch_size=None), ckpt_path=ckpt_path)
    return task


def closed_form(step: int, end: float, share: float) -> float:
    """Warm-up, stable, decay."""
    return PEAK * (step / WARMUP if step < WARMUP else min(1, (end - step) / (share * end)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize(
    ("budget", "end"),
    [
        ({"max_steps": 20}, 20),
        ({"max_epochs": 1}, 40),
        ({"max_time": "00:00:00:30"}, 30),  # a second a step
        ({"max_time": {"seconds": 30}, "max_steps": 20}, 20),
        ({"max_time": {"seconds": 10}, "max_steps": 20}, 10),
    ],
)
def test_the_rate_ends_when_the_budget_does(monkeypatch, budget, end, share):
    clock = Clock(monkeypatch, seconds=1.0)
    fit(clock, share, **budget)
    assert clock.rates == pytest.approx([closed_form(step, end, share) for step in range(end)])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("budget", [{"max_steps": 20}, {"max_time": {"seconds": 20}}])
def test_a_run_that_was_stopped_goes_on_by_its_steps_and_its_time(monkeypatch, tmp_path, budget):
    """To the bit; the time between does not count, and steps take as long as before."""
    whole = Clock(monkeypatch, seconds=1.0, save_at=13, path=tmp_path / "x.ckpt")
    expected = fit(whole, 0.5, **budget)
    later = Clock(monkeypatch, seconds=1.0)
    later.now = 5e6
    resumed = fit(later, 0.5, tmp_path / "x.ckpt", **budget)
    assert whole.rates[13:] == later.rates
    assert torch.equal(resumed.model.weight, expected.model.weight)


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_is_given_more_goes_on_as_if_it_had_always_had_it(monkeypatch, tmp_path):
    """The state at 10 of 20 steps is that at 10 of 40: it was before the decay of either."""
    stopped = Clock(monkeypatch, save_at=10, path=tmp_path / "x.ckpt")
    fit(stopped, 0.25, max_steps=20)
    whole, more = Clock(monkeypatch), Clock(monkeypatch)
    expected = fit(whole, 0.25, max_steps=40)
    assert torch.equal(fit(more, 0.25, tmp_path / "x.ckpt", max_steps=40).model.weight, expected.model.weight)
    assert stopped.rates[15:] != whole.rates[15:20] and more.rates == whole.rates[10:]


@pytest.mark.filterwarnings("ignore")
def test_a_timer_that_only_measures_is_no_budget(monkeypatch):
    trainer = quiet_trainer(callbacks=[Timer()], max_epochs=-1)
    with pytest.raises(UserError, match=r"trainer\.max_time"):
        trainer.fit(Squares(1.0), torch.utils.data.DataLoader([{"x": torch.ones(1, 2)}], batch_size=None))


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_is_one(share):
    with pytest.raises(UserError, match=r"model\.decay_share"):
        Squares(share)
