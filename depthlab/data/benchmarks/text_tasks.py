"""What a task of labelled texts is: columns, labels, metrics; rows become examples, or a line about what is wrong."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from depthlab.data.benchmarks.labelled import Examples
from depthlab.errors import SHOWN, UserError

Row = tuple[str, Mapping[str, str] | None]
"""Where it stands, for messages, and its columns; None in their place for one that is to be left out."""


@dataclass(frozen=True)
class TextTask:
    """A task.

    Attributes:
        name: In the settings.
        texts: The column of the text, or the two of a pair.
        metrics: Names in `depthlab.metrics.glue`, the score first.
        labels: Names of the classes in the order of their numbers; none for a regression.
        label: Column of the label.
        bounds: Lowest and highest score of a regression.
        may_be_empty: Whether a text may have nothing in it.
        advice: What to add where a label is none of the classes.
    """

    name: str
    texts: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    labels: tuple[str, ...] = ("0", "1")
    label: str = "label"
    bounds: tuple[float, float] = (-math.inf, math.inf)
    may_be_empty: bool = False
    advice: str = ""

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number."""
        return not self.labels

    @property
    def num_labels(self) -> int:
        """Outputs of a classifier: 1 for a regression, as in Hugging Face's models."""
        return len(self.labels) or 1

    def examples(self, rows: Iterable[Row]) -> Examples:
        """The examples that rows are, without labels where they have none.

        Raises:
            UserError: An empty text, or a label that is not the task's.
        """
        texts: list[list[str]] = [[] for _ in self.texts]
        labels: list[Any] = []
        skipped = 0
        for place, row in rows:
            if row is None:
                skipped += 1
                continue
            for column, values in zip(self.texts, texts, strict=True):
                if not row[column].strip() and not self.may_be_empty:
                    raise UserError(f"{place}: the column {column!r} is empty; fill it or remove the row")
                values.append(row[column].strip())
            if self.label in row:
                labels.append(self.number_of(row[self.label], place))
        return Examples(texts, labels or None, skipped)

    def number_of(self, text: str, place: str) -> int | float:
        """The number that a label stands for.

        Raises:
            UserError: It is not the task's.
        """
        if text in self.labels:
            return self.labels.index(text)
        lowest, highest = self.bounds
        if self.is_regression:
            try:
                score = float(text)
            except ValueError:
                score = math.nan
            if lowest <= score <= highest and math.isfinite(score):
                return score
        within = "" if math.isinf(lowest) else f" from {lowest:g} to {highest:g}"
        more = f" and {len(self.labels) - SHOWN} more" if len(self.labels) > SHOWN else ""
        classes = f"one of {', '.join(self.labels[:SHOWN])}{more}{self.advice}"
        allowed = f"a number{within}" if self.is_regression else classes
        raise UserError(f"{place}: the {self.label} is {text!r}; it must be {allowed}")
