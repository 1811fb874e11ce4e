"""No halting: every token takes all L iterations, plain ALBERT."""

from dataclasses import dataclass
from typing import ClassVar

from depthlab.models.halting.rule import HaltingRule


@dataclass(frozen=True)
class Fixed(HaltingRule):
    """Every token L times."""

    adaptive: ClassVar[bool] = False
    dial: ClassVar[str] = "num_hidden_layers"

    def describe(self, cap: int) -> str:
        return f"fixed, {cap}"
