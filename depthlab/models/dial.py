"""The dial: the one number of a halting rule that is turned after training, and how far the cap goes."""

import math
from numbers import Real
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from depthlab.errors import UserError

if TYPE_CHECKING:
    from depthlab.models.configuration import AdaptiveAlbertConfig


MOST = 100_000
"""Of a dial that counts iterations, or the cap: what is beyond would never end."""


def turn(config: "AdaptiveAlbertConfig", dial: float) -> None:
    """Set the number that `HaltingRule.dial` names, in place: a key of `halting_settings`, or a field.

    Raises:
        UserError: the rule has none, or takes whole numbers only; it is no number; as `turn_model` of a cap.
    """
    rule = config.rule
    name = rule.dial
    if name is None:
        raise UserError(f"halting {config.halting!r} has no dial: set its halting_settings")
    what = f"the dial of halting {config.halting!r} is {name}"
    if not isinstance(dial, Real) or math.isnan(dial):
        raise UserError(f"{what}, a number, got {dial!r}")
    if isinstance(getattr(rule, name, getattr(config, name, None)), int):
        if not abs(dial) <= MOST or dial != int(dial):
            raise UserError(f"{what}, a whole number, {MOST:,} at most, got {dial:g}")
        dial = int(dial)
    else:
        dial = float(dial)
    if name == "num_hidden_layers":
        _set_cap(config, dial)
    elif hasattr(config, name):
        setattr(config, name, dial)
    else:
        config.halting_settings = config.halting_settings | {name: dial}


def turn_model(model: PreTrainedModel, dial: float | None = None, max_depth: int | None = None) -> None:
    """Set the dial of an adaptive ALBERT, and its cap: from now on that is what it does.

    Args:
        model: of any head.
        dial: as `turn`; None leaves it.
        max_depth: the cap, beyond that of training, too, where iterations share a layer; None leaves it.

    Raises:
        UserError: as `turn`; a value is out of its range; an untied model has no layers for so deep a cap; several
            groups of layers share out another cap than theirs; the dial is the cap, and both are given. The model then
            stays as it was.
    """
    config, layers = model.config, len(model.base_model.encoder.albert_layer_groups)
    if None not in (dial, max_depth) and config.rule.dial == "num_hidden_layers":
        raise UserError(f"the dial of halting {config.halting!r} is the depth itself: leave max_depth out")
    before = vars(config).copy()
    try:
        if max_depth is not None:
            _set_cap(config, max_depth)
        if dial is not None:
            turn(config, dial)
        if layers < config.num_hidden_groups:  # which follow the cap
            raise UserError(f"a depth of {config.num_hidden_layers} is over the {layers} layers of an untied model")
        _ = config.rule  # which knows its ranges
    except UserError:  # the model stays as it was
        vars(config).update(before)
        raise


def _set_cap(config: "AdaptiveAlbertConfig", cap: int) -> None:
    if not 1 <= cap <= MOST or cap != int(cap):
        raise UserError(f"a depth of {cap}: it must be 1 or more, and {MOST:,} at most, a whole number")
    before, groups = config.num_hidden_layers, config.num_hidden_groups
    config.num_hidden_layers = int(cap)
    if cap != before and config.num_hidden_groups == groups > 1:
        raise UserError(
            f"the depth of {before} is shared out among {groups} groups of layers, and a depth of {cap} would be "
            "otherwise: leave it as it is"
        )
