"""The price of depth is steered to a target: on a model whose depth answers to tau in closed form."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn
from torch.utils.data import DataLoader

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.checkpoint import DepthSettings
from depthlab.tasks import Task
from depthlab.tasks.losses import Loss
from depthlab.tasks.scheduled import ScheduledDepth
from depthlab.tasks.steering import DepthTarget
from tests.models.conftest import SIZES
from tests.support import quiet_trainer

DEEPEST, WORTH, CAP, TOKENS = 5.0, 1e-3, 6, 1000
"""How deep the model goes for nothing, and what that is worth to it: see `Answer`."""
RATE = 0.1 / WORTH


class Model(nn.Module):
    """Depth z is its only parameter. Tokens take the whole numbers around it, so that z is their mean."""

    tokens = TOKENS

    def __init__(self, tau, **settings):
        super().__init__()
        self.config = AdaptiveAlbertConfig(**SIZES, num_hidden_layers=CAP, time_penalty=tau, **settings)
        self.depth = nn.Parameter(torch.tensor([DEEPEST]))

    @property
    def base_model(self):
        """All of it is the halting unit."""
        return SimpleNamespace(encoder=SimpleNamespace(halting=self))

    def forward(self):
        z = self.depth.clamp(1, CAP)
        shallow = torch.arange(TOKENS) >= ((z - z.floor()) * TOKENS).round()
        return {"depths": torch.where(shallow, z.floor(), z.ceil()).long()[None], "remainders": torch.zeros(1, TOKENS)}


class Answer(Task):
    """The loss is WORTH z (log(z / DEEPEST) - 1) + tau z, which is least at z = DEEPEST exp(-tau / WORTH)."""

    def __init__(self, target=None, tau=1e-3, **settings):
        super().__init__(Model(tau, **settings), partial(torch.optim.SGD, lr=RATE), warmup_steps=0, decay_share=0.01)
        self.learn_depth(DepthSettings(target=target))

    def run_model(self, batch):
        return Outputs(self.model())

    def losses(self, batch, outputs):
        z = self.model.depth
        return {"task": Loss(WORTH * z * ((z / DEEPEST).log() - 1)), "ponder": Loss(z)}


class Outputs(dict):
    """As Hugging Face's."""

    __getattr__ = dict.__getitem__


class Watch(Callback):
    """Notes depth and price of each step, and saves once."""

    def __init__(self, save_at=None, path=None):
        self.depths, self.prices, self.save_at, self.path = [], [], save_at, path

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.depths.append(pl_module.model.depth.item())
        self.prices.append(float(pl_module.time_penalty))
        if trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.path)


class WatchTokens(Callback):
    """Notes the mean depth of each step's tokens."""

    def __init__(self):
        self.depths = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.depths.append(outputs["depths"].double().mean().item())


def fit(task, steps, watch=None, ckpt_path=None, **settings):
    watch = watch or Watch()
    batches = DataLoader([{"attention_mask": torch.ones(1, task.model.tokens)}] * 10, batch_size=None)
    quiet_trainer(max_steps=steps, callbacks=[watch], **settings).fit(task, batches, ckpt_path=ckpt_path)
    return watch


@pytest.mark.parametrize(("target", "tau"), [(2.0, 2e-3), (3.5, 1e-3), (4.5, 1e-4), (5.5, 1e-3)])
def test_depth_comes_to_the_target_and_tau_to_its_price(target, tau):
    watch = fit(Answer(target, tau), 400)
    last = watch.depths[-100:]
    assert sum(last) / len(last) == pytest.approx(target, rel=0.05)
    assert watch.prices[-1] == pytest.approx(WORTH * math.log(DEEPEST / target), rel=0.2, abs=2e-5)
    assert watch.prices[0] == pytest.approx(tau, rel=1e-6), "it begins with what was given"


class HaltingUnit(Model):
    """Of tokens of random states, adaptive computation time: each runs until its probabilities sum to 0.99."""

    tokens = 100

    def __init__(self, tau, width=384):
        super().__init__(tau)
        self.mean = torch.randn(width) / 2
        self.weight, self.bias = nn.Parameter(torch.randn(width) / 50), nn.Parameter(torch.tensor(-3.9))

    def forward(self):
        states = self.mean + torch.randn(self.tokens, CAP, len(self.mean)) / 2
        chance = torch.sigmoid(states @ self.weight + self.bias)
        before = chance.cumsum(1) - chance
        runs = before <= 0.99
        expected = ((1 - before) * runs).sum(1)
        return {"depths": runs.sum(1)[None], "remainders": torch.zeros(1, self.tokens), "expected": expected}


class Saturated(Answer):
    """Depth is worth little, at most what the cap gives. Under Adam all tokens stay at the cap until the bias has risen
    far, then fall through to 2, where a unit that is sure of itself hardly has a gradient."""

    def __init__(self, target):
        torch.manual_seed(0)
        optimizer = partial(torch.optim.AdamW, lr=5e-4)
        Task.__init__(self, HaltingUnit(tau=5e-4), optimizer, warmup_steps=50)
        self.learn_depth(DepthSettings(target=target))

    def losses(self, batch, outputs):
        expected = outputs["expected"]
        return {"task": Loss(1e-4 * expected * ((expected / CAP).log() - 1)), "ponder": Loss(expected)}


def test_a_halting_unit_that_has_fallen_through_comes_back():
    watch = WatchTokens()
    fit(Saturated(3.0), 345, watch)
    last = watch.depths[-86:]
    assert sum(last) / len(last) == pytest.approx(3.0, rel=0.05)


def test_the_units_rate_does_not_fall_while_it_is_steered():
    """So that it comes to the target after all else has come to rest."""
    last = []
    for target in (3.0, None):
        task = Answer(target)
        task.decay_share, task.halting_lr_factor = 1.0, 3.0
        fit(task, 10)
        last.append(task.trainer.optimizers[0].param_groups[-1]["lr"])
    assert last == pytest.approx([3 * RATE, 0])


@pytest.mark.parametrize(("target", "depth", "bound"), [(2.0, 6.0, 1000), (3.0, 1.0, -300 / 0.7)])
def test_a_depth_that_does_not_answer_has_a_price_with_an_end(target, depth, bound):
    steered = DepthTarget(target, CAP)
    for _ in range(3000):
        steered.add(torch.tensor([depth]), torch.ones(1))
        steered.steer(SingleDeviceStrategy())
    pushed = 5 * max(min(math.log(depth / target), 0.1), -0.3)
    expected = (math.exp(pushed) if bound > 0 else math.exp(-pushed)) * bound
    assert float(steered.factor) == pytest.approx(expected * (1 if bound < 0 else 1 / 0.7), rel=1e-3)


def test_without_a_target_tau_stays():
    watch = fit(Answer(tau=1e-3), 5)
    assert set(watch.prices) == {1e-3}


def test_the_price_is_that_of_the_formula():
    """Step by step, from the depths that were seen, in pieces of a step as in one."""
    watch = fit(Answer(3.0), 12, accumulate_grad_batches=2)
    depths, prices = watch.depths[::2], watch.prices[::2]
    assert prices == watch.prices[1::2], "a step has one price"
    error = earlier = integral = None
    for depth, price in zip(depths, prices, strict=True):
        if error is not None:
            u = integral + 5 * (error + 10 * (error - earlier))
            assert price == pytest.approx(1e-3 * (math.exp(u) - 0.3 * math.exp(-u)) / 0.7, rel=1e-5)
        shown = math.floor(depth) + round((depth % 1) * TOKENS) / TOKENS
        now = min(max(math.log(shown / 3.0), -0.3), 0.1)
        error, earlier, integral = (now, now, 0.0) if error is None else (error, error, integral)
        error, earlier = error + (now - error) / 10, error
        integral += 0.1 * error


@pytest.mark.filterwarnings("ignore")  # that the loader can not resume
def test_a_run_that_goes_on_is_the_same_to_the_bit(tmp_path):
    whole = fit(Answer(2.5), 60, Watch(save_at=25, path=tmp_path / "state.ckpt"))
    rest = fit(Answer(2.5), 60, ckpt_path=tmp_path / "state.ckpt")
    assert rest.prices == whole.prices[25:] and rest.depths == whole.depths[25:]
    assert len({*rest.prices}) > 30


@pytest.mark.filterwarnings("ignore")  # that there is nothing to validate
def test_it_waits_until_the_price_is_there():
    """Depth is held first, then tau rises: neither says how depth answers to it."""

    class Late(Answer, ScheduledDepth):
        time_penalty_warmup_steps, fixed_depth_steps, _steps_of_checkpoint, _held = 6, 4, 0, None
        time_penalty, depth_has_its_price = ScheduledDepth.time_penalty, ScheduledDepth.depth_has_its_price
        training_step, on_before_optimizer_step = Task.training_step, Task.on_before_optimizer_step

        def __init__(self):
            Task.__init__(self, Model(1e-3), partial(torch.optim.SGD, lr=1.0), 0)
            self.learn_depth(DepthSettings(target=2.0))

        run_model, losses = Answer.run_model, Answer.losses

    watch = fit(Late(), 14)
    rising = [0.0] * 4 + [1e-3 * share / 6 for share in range(1, 7)]
    assert watch.prices[:10] == pytest.approx(rising)
    assert watch.prices[12] > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 7.0}, "between 1 and the cap 6, got 7"),
        ({"target": 0.5}, "between 1 and the cap 6, got 0.5"),
        ({"target": 2.0, "tau": 0.0}, "begin with a model.depth.time_penalty above 0"),
        ({"target": 2.0, "halting": "fixed"}, "here depth has none: set its num_hidden_layers"),
        ({"target": 2.0, "halting": "ponder"}, "here depth has none: set its ponder_threshold"),
        ({"target": 2.0, "halting": "route", "act_update": "accumulate"}, "here depth has none: set its route_share"),
    ],
)
def test_what_can_not_be_steered(settings, message):
    task = Answer(**settings)  # to be evaluated, by another rule than it was trained by
    with pytest.raises(UserError, match=message):
        fit(task, 1)
