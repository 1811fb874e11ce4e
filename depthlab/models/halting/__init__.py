"""Halting rules, a file each: when a token stops, and how much its iterations weigh. Tensors only, nothing of encoders.

How to add one: a frozen dataclass after `rule.HaltingRule`, and its line below; a user's own is passed to `register`.
"""

from collections.abc import Callable
from typing import TypeVar

from depthlab.errors import UserError
from depthlab.models.halting.act import Act
from depthlab.models.halting.fixed import Fixed
from depthlab.models.halting.rule import HaltingRule, HaltingStep, Look, State, Tokens, did_you_mean

Rule = TypeVar("Rule", bound=type[HaltingRule])

RULES: dict[str, type[HaltingRule]] = {
    "act": Act,
    "fixed": Fixed,
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


__all__ = ["RULES", "HaltingRule", "HaltingStep", "Look", "State", "Tokens", "register", "rule_named"]
