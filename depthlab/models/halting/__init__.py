"""Halting rules, a file each: when a token stops, and how much its iterations weigh. Tensors only, nothing of encoders.

How to add one: a frozen dataclass after `rule.HaltingRule`, and its line below; a user's own is passed to `register`.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from depthlab.errors import UserError
from depthlab.models.halting.act import Act
from depthlab.models.halting.capacity import Capacity
from depthlab.models.halting.change import Change
from depthlab.models.halting.entropy import Entropy
from depthlab.models.halting.every import Every
from depthlab.models.halting.fixed import Fixed
from depthlab.models.halting.margin import Margin
from depthlab.models.halting.patience import Patience
from depthlab.models.halting.ponder import Ponder
from depthlab.models.halting.random import Random
from depthlab.models.halting.route import Route
from depthlab.models.halting.rule import HaltingRule, HaltingStep, Look, State, Tokens, Unit, did_you_mean

Rule = TypeVar("Rule", bound=type[HaltingRule])

RULES: dict[str, type[HaltingRule]] = {
    "act": Act,
    "fixed": Fixed,
    "route": Route,
    "ponder": Ponder,
    "capacity": Capacity,
    "change": Change,
    "entropy": Entropy,
    "margin": Margin,
    "patience": Patience,
    "every": Every,
    "random": Random,
}


def register(name: str) -> Callable[[Rule], Rule]:
    """Class decorator: make a rule known as `halting: NAME`.

    Raises:
        ValueError: another rule has that name.
    """

    def add(rule: Rule) -> Rule:
        known = RULES.setdefault(name, rule)
        if (known.__module__, known.__qualname__) != (rule.__module__, rule.__qualname__):
            raise ValueError(f"there is a halting rule {name!r} already: {known.__qualname__}")
        RULES[name] = rule  # a notebook's cell may run twice
        return rule

    return add


def rule_named(name: str) -> type[HaltingRule]:
    """The rule of a configuration's `halting`.

    Raises:
        UserError: there is none.
    """
    if name not in RULES:
        raise UserError(f"there is no halting {name!r}{did_you_mean(name, RULES)} (there are {', '.join(RULES)})")
    return RULES[name]


def describe(model: Mapping[str, Any]) -> str:
    """Depth and settings in a few words, of what a run's results say of its model.

    Args:
        model: `num_hidden_layers`, `halting` and the rule's settings; of a rule that is not known here, its name.
    """
    rule, cap = RULES.get(model["halting"]), model["num_hidden_layers"]
    if rule is None:
        return f"cap {cap}, {model['halting']}"
    return rule(**{field.name: model[field.name] for field in fields(rule) if field.name in model}).describe(cap)


__all__ = [
    "RULES",
    "HaltingRule",
    "HaltingStep",
    "Look",
    "State",
    "Tokens",
    "Unit",
    "describe",
    "register",
    "rule_named",
]
