"""Looks for where in a training step numbers first stop to be finite."""

import warnings
from collections import Counter
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from depthlab.tasks.base import Task

ANOMALY = "returned nan values"
"""What torch's anomaly detection says of a step of the backward pass."""
OTHERS = ("/torch/", "/lightning/", "/jsonargparse/")
"""In paths of files that only lead to who made a tensor."""


class Found(Exception):
    """Ends a training step that has been looked through."""


class BadNumberSearch(Callback):
    """Says in `found` what of a step is NaN or infinite first: a module's output, a loss, a gradient, a weight.

    For a trainer with `detect_anomaly`, which names what of the backward pass makes a NaN, and where in the code that
    was called forwards. The first thing found ends the step, by the exception `Found`, or torch's own.
    """

    def __init__(self) -> None:
        self.found: str | None = None
        self._calls: Counter[str] = Counter()  # of each module, within the piece of the step
        self._before = "the start"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what leaves each module of the model. Within a module come first those that it calls."""
        model = getattr(pl_module, "model", pl_module)
        for name, module in model.named_modules():
            module.register_forward_hook(partial(self._look, name), with_kwargs=True)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._calls.clear()

    def _look(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._calls[name] += 1
        call = f"{name or 'the model'}, in its call {self._calls[name]} of the forward pass"
        bad = next((tensor for tensor in _numbers(output) if not tensor.isfinite().all()), None)
        if bad is None:
            self._before = call
            return
        count, of = (~bad.isfinite()).sum().item(), " x ".join(map(str, bad.shape))
        if all(tensor.isfinite().all() for tensor in _numbers((args, kwargs))):
            source = "made of finite ones"
        else:
            source = f"and so is what it was given, which was made after {self._before}"
        self._end(f"{call}: {count:,} numbers of its output [{of}] are not finite, {source}")

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """All modules were right; was the loss?"""
        if not loss.isfinite():
            means = pl_module.loss_sums["train"].read(trainer.strategy) if isinstance(pl_module, Task) else {}
            named = ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
            self._end(f"the loss is {loss:g}{f' ({named})' if named else ''}; what left the model's modules is finite")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """The backward pass had no NaN; was anything infinite?"""
        gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
        if bad := [name for name, gradient in gradients.items() if not gradient.isfinite().all()]:
            self._end(f"gradients of {', '.join(bad)}; losses and what left the model's modules are finite")
        self._largest = max(gradient.abs().max().item() for gradient in gradients.values())

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        """Gradients were right; were weights after the update?"""
        if bad := [name for name, weight in pl_module.named_parameters() if not weight.isfinite().all()]:
            said = f"losses and gradients, of {self._largest:.3g} at most, are finite"
            self._end(f"the optimiser's update of {', '.join(bad)}; {said}")

    def explain(self, error: RuntimeError, said: list[warnings.WarningMessage]) -> None:
        """Take what anomaly detection has found: its error, and the warning with the lines of the forward pass.

        Raises:
            RuntimeError: the error is another one.
        """
        if ANOMALY not in str(error):
            raise error
        frames = [line for warning in said for line in str(warning.message).splitlines() if line.startswith("  File")]
        ours = [line.strip() for line in frames if not any(part in line for part in OTHERS)]
        self.found = f"the backward pass: {error}" + (f" Forwards it was called in {ours[-1]}" if ours else "")

    def _end(self, found: str) -> None:
        self.found = found
        raise Found


def _numbers(value: Any) -> list[Tensor]:
    """The tensors of real numbers in what a module takes or gives."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
