"""Where in a step numbers first stop to be finite, for each place where they can."""

import warnings

import torch

from depthlab.callbacks.bad_numbers import BadNumberSearch, Found
from depthlab.models import AdaptiveAlbertConfig
from depthlab.tasks import PretrainingTask
from tests.models.conftest import SIZES
from tests.support import quiet_trainer
from tests.tasks.test_any_loader import LABELS, batches


class Spoilt(PretrainingTask):
    """A term in the loss, of what the model's modules give or not."""

    def __init__(self, term, **settings):
        super().__init__(AdaptiveAlbertConfig(**SIZES), warmup_steps=0, **settings)
        self.term = term

    def training_step(self, batch, batch_idx):
        step = super().training_step(batch, batch_idx)
        step["loss"] = step["loss"] + self.term(self.model.albert)
        return step


def first(task):
    """What is found in the first step of a task."""
    torch.manual_seed(0)
    data = batches(**LABELS)
    search = BadNumberSearch()
    trainer = quiet_trainer(max_steps=1, callbacks=[search], detect_anomaly=True, num_sanity_val_steps=0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            trainer.fit(task, data, data)
        except Found:
            pass
        except RuntimeError as error:
            search.explain(error, said)
    return search.found


def nothing(model):
    return 0.0


def root_of_zero(model):
    """0, which has no derivative there."""
    return (0 * model.pooler.weight).square().sum().sqrt()


def steep(model):
    """0, with a derivative that overflows."""
    return (model.pooler.weight[0, 0] - model.pooler.weight[0, 0].detach()) * 1e30 * 1e30


def test_nothing():
    assert first(Spoilt(nothing)) is None


def test_a_module():
    task = Spoilt(nothing)
    layer = task.model.albert.encoder.albert_layer_groups[0].albert_layers[0]
    calls = iter(range(99))
    layer.ffn.register_forward_hook(lambda m, args, output: output / 0 if next(calls) == 1 else None)
    found = first(task)
    name = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn"
    assert found.startswith(f"{name}, in its call 2 of the forward pass: ") and "made of finite ones" in found


def test_what_is_made_between_modules():
    task = Spoilt(nothing)
    task.model.albert.encoder.halting.register_forward_pre_hook(lambda m, args: (args[0] * float("inf"),))
    found = first(task)
    assert found.startswith("albert.encoder.halting, in its call 1 of the forward pass: ")
    assert "and so is what it was given, which was made after albert.encoder.albert_layer_groups.0, in its" in found


def test_the_loss():
    found = first(Spoilt(lambda model: float("inf")))
    assert found.startswith("the loss is inf (mlm ") and "ponder " in found


def test_the_backward_pass():
    found = first(Spoilt(root_of_zero))
    assert found.startswith("the backward pass: Function 'PowBackward0' returned nan")
    assert "test_bad_numbers.py" in found and "in root_of_zero" in found


def test_a_gradient():
    assert first(Spoilt(steep)).startswith("gradients of model.albert.pooler.weight; losses")


def test_a_weight():
    def descent(groups):
        return torch.optim.SGD([{"params": group["params"]} for group in groups], lr=1e38)

    found = first(Spoilt(lambda model: 1e6 * model.pooler.weight[0, 0], optimizer=descent))
    assert found == (
        "the optimiser's update of model.albert.pooler.weight; losses and gradients, of 1e+06 at most, are finite"
    )
