"""LAMB as ALBERT has it, Muon beside AdamW, the parameters they treat differently, and the learning rate's schedule."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from depthlab.errors import UserError

FEWEST_OUTPUTS = 16
"""Of a linear layer between states; one with fewer gives probabilities or classes."""


class Lamb(Optimizer):
    """LAMB by the formula of ALBERT's code: Adam without bias correction, scaled per tensor by a trust ratio.

    For a parameter p with gradient g:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        u = m / (sqrt(v) + eps) + weight_decay * p
        p = p - lr * (||p|| / ||u||) * u

    The trust ratio ||p|| / ||u|| is 1 where either norm is 0, and in groups with ``trust_ratio=False``. Gradients are
    not clipped here (the trainer does that). Source: You et al., 2020 (arXiv:1904.00962), in the variant of
    google-research/albert, ``lamb_optimizer.py``; the original corrects the bias of m and v.

    Args:
        params: Parameters or groups of them, see :func:`parameter_groups`. A group may set ``trust_ratio`` (default
            True) beside the arguments below.
        lr: Learning rate, at least 0.
        betas: Decay rates of the running means of g and g^2, each in [0, 1).
        eps: Added to sqrt(v), greater than 0.
        weight_decay: Weight decay, at least 0. It is part of u, so the trust ratio scales it too.

    Raises:
        UserError: An argument is out of its range.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1.76e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        if not lr >= 0:
            raise UserError(f"lr must be at least 0, got {lr}")
        if not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"betas must lie in [0, 1), got {tuple(betas)}")
        if not eps > 0:
            raise UserError(f"eps must be greater than 0, got {eps}")
        if not weight_decay >= 0:
            raise UserError(f"weight_decay must be at least 0, got {weight_decay}")
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "trust_ratio": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        beta1, beta2 = group["betas"]
        mean = state["exp_avg"].mul_(beta1).add_(parameter.grad, alpha=1 - beta1)
        mean_square = state["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)

        update = mean / mean_square.sqrt().add_(group["eps"])
        if group["weight_decay"]:
            update.add_(parameter, alpha=group["weight_decay"])
        if group["trust_ratio"]:
            update.mul_(_trust_ratio(parameter, update))
        parameter.sub_(update, alpha=group["lr"])


def _trust_ratio(parameter: Tensor, update: Tensor) -> Tensor:
    """||parameter|| / ||update||, 1 where either is 0. It stays on the device: a branch would wait for the GPU."""
    parameter_norm = torch.linalg.vector_norm(parameter.float())
    update_norm = torch.linalg.vector_norm(update.float())
    return torch.where((parameter_norm > 0) & (update_norm > 0), parameter_norm / update_norm, 1.0)


class MuonWithAdamW(Optimizer):
    """Muon for the matrices between states, AdamW for everything else, as Muon's author has it; both are torch's.

    Muon steps along the nearest orthogonal matrix to the gradient's momentum, here scaled by 0.2 sqrt(longer side), so
    that its entries have the size of AdamW's updates and one learning rate serves both. Sources: Jordan et al., 2024
    (https://kellerjordan.github.io/posts/muon/); the scale is of Liu et al., 2025 (arXiv:2502.16982).

    Args:
        params: Groups of parameters, see :func:`parameter_groups`: those with ``hidden_matrices=True`` are Muon's.
        lr: Learning rate.
        betas: AdamW's.
        eps: AdamW's.
        weight_decay: Decoupled weight decay, of both.
        momentum: Muon's.

    Raises:
        ValueError: An argument is out of its range, or a parameter of Muon's is no matrix.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "hidden_matrices": False})
        muon, adamw = self._split()
        # They complete their groups with settings of their own, in place.
        self._muon = Muon(muon, lr, momentum=momentum, adjust_lr_fn="match_rms_adamw")
        self._adamw = AdamW(adamw, lr, betas, eps)

    def _split(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Muon's groups, and AdamW's."""
        groups = self.param_groups
        return [g for g in groups if g["hidden_matrices"]], [g for g in groups if not g["hidden_matrices"]]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; the closure's loss, if there is one."""
        # State and groups are this optimiser's: schedules, checkpoints and gradient scaling see one.
        self._muon.param_groups, self._adamw.param_groups = self._split()
        self._muon.state = self._adamw.state = self.state
        loss = self._muon.step(closure)
        self._adamw.step()
        return loss


def parameter_groups(module: nn.Module, apart: nn.Module | None = None) -> list[dict[str, Any]]:
    """The trainable parameters of a module in three groups, for the optimisers above or any of torch.

    The first two follow the optimiser's own settings: the matrices between states, which are the weights of linear
    layers but for those with fewer outputs than `FEWEST_OUTPUTS` (the halting unit, classifiers); and the rest, such as
    embeddings and what is tied to them. The third holds what ALBERT excludes from weight decay and trust ratio: the
    parameters of every ``nn.LayerNorm``, whatever its name (one of HF's is ``full_layer_layer_norm``), everything named
    bias, and any other vector. A parameter tied to several places is listed once, a frozen one never.

    Args:
        module: The model.
        apart: A part of it whose parameters are a fourth group, like the third: for a learning rate of their own.

    Returns:
        ``[{"params", "hidden_matrices": True}, {"params"}, {"params", "weight_decay": 0, "trust_ratio": False}]``; any
        list of parameters may be empty.
    """
    alone = [] if apart is None else [parameter for parameter in apart.parameters() if parameter.requires_grad]
    embeddings = {p for owner in module.modules() if isinstance(owner, nn.Embedding) for p in owner.parameters()}
    hidden, rest, excluded = [], [], []
    seen: set[nn.Parameter] = set(alone)
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            if isinstance(owner, nn.LayerNorm) or name.endswith("bias") or parameter.ndim <= 1:
                excluded.append(parameter)
            elif isinstance(owner, nn.Linear) and parameter not in embeddings and owner.out_features >= FEWEST_OUTPUTS:
                hidden.append(parameter)
            else:
                rest.append(parameter)
    return [
        {"params": hidden, "hidden_matrices": True},
        {"params": rest},
        *(
            {"params": group, "weight_decay": 0.0, "trust_ratio": False}
            for group in (excluded, alone)[: 1 + bool(alone)]
        ),
    ]


def warmup_polynomial_decay(
    optimizer: Optimizer,
    warmup_steps: int,
    total_steps: float,
    decay_share: float = 1.0,
    time_used: Callable[[], float] = lambda: 0.0,
    lasting: Collection[int] = (),
) -> LambdaLR:
    """Linear warm-up, constant rate, linear decay over the last share of the budget; ALBERT's schedule by default.

    With W warm-up steps, and a share D of the budget to decay over, the update that follows s earlier ones has the
    learning rate

        lr * s / W                    during the warm-up, s < W
        lr * min(1, (1 - p) / D)      afterwards

    where p is the share of the budget that is used up: s / S with S steps in all, or the share of the time, whichever
    is more. With D = 1 this is ALBERT's polynomial decay of power 1 over all steps, warm-up included: at s = W a small
    step down, to lr * (1 - W / S). With less it is warm-up, stable, decay (WSD; Hu et al. 2024, arXiv:2404.06395):
    until the decay begins the rate does not depend on the budget, so a run can be given another and go on.

    Source: google-research/albert, ``optimization.py``, where s is TensorFlow's global step. So the first update of a
    warm-up is void, as it is there and in Hugging Face's schedules.

    Args:
        optimizer: Its present learning rates are the peaks.
        warmup_steps: W, in optimiser steps; 0 for no warm-up. From S on, the warm-up never ends.
        total_steps: S, in optimiser steps; infinite where time is the budget.
        decay_share: D, in (0, 1].
        time_used: The share of the time that has passed; asked after every update, and 0 where time is no budget.
        lasting: Numbers of the groups whose rate does not fall.

    Returns:
        The schedule, to be stepped after every update (Lightning: ``"interval": "step"``).

    Raises:
        UserError: ``warmup_steps`` is negative, ``total_steps`` is not positive, or ``decay_share`` out of its range.
    """
    if warmup_steps < 0:
        raise UserError(f"warmup_steps must be at least 0, got {warmup_steps}")
    if not total_steps >= 1:
        raise UserError(f"total_steps must be at least 1, got {total_steps}")
    if not 0 < decay_share <= 1:
        raise UserError(f"decay_share must lie in (0, 1], got {decay_share}")

    def rising(updates_made: int) -> float:
        return updates_made / warmup_steps if updates_made < warmup_steps else 1.0

    def falling(updates_made: int) -> float:
        if updates_made < warmup_steps:
            return rising(updates_made)
        used = max(updates_made / total_steps, time_used())
        return min(1.0, max(0.0, 1 - used) / decay_share)

    groups = range(len(optimizer.param_groups))
    return LambdaLR(optimizer, [rising if group in lasting else falling for group in groups])
