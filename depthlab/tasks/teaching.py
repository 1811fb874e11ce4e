"""A trained encoder teaches: named losses of how far a model's states are from the teacher's."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedConfig

from depthlab.errors import UserError
from depthlab.hub_errors import loaded
from depthlab.tasks.losses import Loss

LOSSES = ("layers", "last", "direction", "pairs")


class Answer(NamedTuple):
    """What an encoder makes of a batch."""

    last: Tensor
    """[B, T, H], what leaves it."""
    states: tuple[Tensor, ...] | None
    """h^0..h^L, L + 1 x [B, T, H]; not needed without `layers`."""
    depths: Tensor
    """[B, T], iterations that each token took."""


class Teacher:
    """A teacher, and what is learnt from it, each a loss per sequence.

    - `layers`: mean over the iterations that tokens take of |h - h_teacher|^2 / |h_teacher|^2. Iteration n of L learns
      layer n L_teacher / L where that is a whole number.
    - `last`: the same of what leaves the encoder, whatever depth each token took, and the teacher's last state.
    - `direction`: 1 less the cosine between the means over the tokens of what leaves the two, as sentence encoders are
      read.
    - `pairs`: squared differences of the cosines between each such mean and those of the other sequences that are
      computed with it. (So it depends on how a step is cut into pieces.)

    It is no module, so it is neither trained nor saved.

    Args:
        name: directory or hub name of an encoder of Hugging Face's.
        student: configuration of the model that learns.
        weights: of the losses wanted, by name.

    Raises:
        UserError: it can't be loaded, has another vocabulary or width; there is no such loss, none has a weight above
            0, or one is negative.
    """

    def __init__(self, name: str, student: PreTrainedConfig, weights: Mapping[str, float]) -> None:
        for loss, weight in weights.items():
            if loss not in LOSSES:
                raise UserError(f"model.teaches: there is no {loss!r} to learn, only {', '.join(LOSSES)}")
            if weight < 0:
                raise UserError(f"model.teaches.{loss} must not be negative, got {weight}")
        self.weights = {loss: weight for loss, weight in weights.items() if weight > 0}
        if not self.weights:
            raise UserError(f"model.teaches has nothing to learn: give one of {', '.join(LOSSES)} a weight above 0")
        self.model = loaded(f"model.teacher {name}", lambda: AutoModel.from_pretrained(name, dtype=torch.float32))
        self.model.eval().requires_grad_(False)
        for field in ("vocab_size", "hidden_size"):
            theirs, ours = getattr(self.model.config, field), getattr(student, field)
            if theirs != ours:
                raise UserError(
                    f"model.teacher {Path(name).name} has {field} {theirs}, the model {ours}: the teacher must be the "
                    "model that was converted"
                )

    @property
    def wants_states(self) -> bool:
        """Whether all states of the model are compared."""
        return "layers" in self.weights

    def losses(self, inputs: Mapping[str, Tensor], answer: Answer) -> dict[str, Loss]:
        """What the model is charged for its answer, by name.

        Args:
            inputs: `input_ids`, `attention_mask` and `token_type_ids`, [B, T], for the teacher to read.
            answer: the model's.
        """
        mask = inputs["attention_mask"]
        self.model.to(mask.device)
        with torch.no_grad():
            output = self.model(**inputs, output_hidden_states=self.wants_states)
        last, target = answer.last.float(), output.last_hidden_state.float()
        found = {}
        if self.wants_states:
            found["layers"] = _layers(answer.states, output.hidden_states, answer.depths)
        if "last" in self.weights:
            found["last"] = mean_state(_gap(last, target)[..., None], mask)[:, 0]
        ours, theirs = (F.normalize(mean_state(states, mask), dim=-1) for states in (last, target))
        if "direction" in self.weights:
            found["direction"] = 1 - (ours * theirs).sum(-1)
        if "pairs" in self.weights:
            found["pairs"] = (ours @ ours.T - theirs @ theirs.T).square().mean(-1)
        return {name: Loss(loss) for name, loss in found.items()}


def _layers(states: tuple[Tensor, ...], targets: tuple[Tensor, ...], depths: Tensor) -> Tensor:
    """[B]"""
    layers, cap = len(targets) - 1, len(states) - 1
    taught = [n for n in range(1, cap + 1) if n * layers % cap == 0]
    ran = torch.stack([depths >= n for n in taught])
    gaps = torch.stack([_gap(states[n].float(), targets[n * layers // cap].float()) for n in taught])
    return (gaps * ran).sum(dim=(0, 2)) / ran.sum(dim=(0, 2)).clamp(min=1)


def _gap(states: Tensor, targets: Tensor) -> Tensor:
    """[B, T], |h - t|^2 / |t|^2 of [B, T, H]."""
    return (states - targets).square().sum(-1) / targets.square().sum(-1)


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """[B, H], mean over the real tokens of [B, T, H]; mask [B, T]."""
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
