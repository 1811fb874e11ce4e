"""Controls: the depths that a model chose for the tokens of a text, given to other tokens of it at the same mean."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from depthlab.kinds import TokenKind
from depthlab.models.imposed import impose

DepthControl = Literal["shuffled", "frequency"]


def control_depths(depths: Tensor, kinds: Tensor, index: Tensor, ranks: Tensor | None = None) -> Tensor:
    """The depths of each text's words among themselves in another order; [CLS], [SEP] and padding keep theirs.

    Args:
        depths: [B, T] integer, those that the model chose.
        kinds: [B, T], the `TokenKind` of each token.
        index: [B], number of each text, which decides its order: the same every time, in any batch.
        ranks: [B, T], how frequent each token is: the rarest gets the largest depth, and so on. None for any order.
    """
    controlled = depths.cpu().numpy().copy()
    frequent = None if ranks is None else ranks.cpu().numpy()
    for row, number in enumerate(index.tolist()):
        words = np.flatnonzero(kinds[row].cpu().numpy() == TokenKind.PLAIN)
        if frequent is None:
            controlled[row, words] = np.random.default_rng(number).permutation(controlled[row, words])
        else:
            rarest_first = words[np.argsort(frequent[row, words], kind="stable")]
            controlled[row, rarest_first] = -np.sort(-controlled[row, words])
    return torch.as_tensor(controlled, device=depths.device)


def run_controlled(
    model: PreTrainedModel, inputs: dict[str, Tensor], kinds: Tensor, index: Tensor, frequencies: Tensor | None = None
) -> ModelOutput:
    """What a model says at the depths of `control_depths`; who watches the encoder sees this run alone.

    Frequencies are [V], how often each piece occurs; None for any order.
    """
    with torch.no_grad():
        chosen = model(**inputs, observer=None).depths
    ranks = None if frequencies is None else frequencies.to(chosen.device)[inputs["input_ids"]]
    rule = impose(model.base_model.encoder.rule, control_depths(chosen, kinds, index, ranks))
    return model(**inputs, halting_rule=rule)
