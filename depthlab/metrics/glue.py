"""GLUE's metrics: Matthews correlation, accuracy, F1, Pearson and Spearman correlation, over a whole split.

Shapes: B examples of a batch, C classes.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import pearson_corrcoef
from torchmetrics.functional.classification import binary_f1_score, binary_matthews_corrcoef
from torchmetrics.utilities import dim_zero_cat

from depthlab.metrics.pretraining import SUM_DTYPE


def _accuracy(predictions: Tensor, labels: Tensor) -> Tensor:
    return (predictions == labels).double().mean()


def _spearman(predictions: Tensor, labels: Tensor) -> Tensor:
    """Not torchmetrics', whose constant against division by zero costs 4e-6 of a correlation of two pairs."""
    return pearson_corrcoef(_ranks(predictions), _ranks(labels))


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1, [N] fp64; equal values share the mean of theirs."""
    _, group, sizes = values.unique(return_inverse=True, return_counts=True)
    return (sizes.cumsum(0) - (sizes.double() - 1) / 2)[group]


def _or_zero(correlation: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A correlation that is 0, as in GLUE, where it is undefined: one side has a single value."""

    def compute(predictions: Tensor, labels: Tensor) -> Tensor:
        if len(predictions.unique()) < 2 or len(labels.unique()) < 2:
            return torch.zeros(())
        return correlation(predictions, labels)

    return compute


METRICS = {
    "matthews_corrcoef": _or_zero(binary_matthews_corrcoef),
    "accuracy": _accuracy,
    "f1": binary_f1_score,  # of label 1; 0 where it is undefined
    "pearson": _or_zero(pearson_corrcoef),
    "spearman": _or_zero(_spearman),
}
"""By name: functions of predictions and labels, [N] each on the CPU, fp64 for the correlations of numbers."""


OF_NUMBERS = ("pearson", "spearman")
"""Those of a regression; the others are of classes."""
OF_SPANS = "span_f1"
"""F1 of the spans that tags such as B-LOC mark, of each word in its sentence."""
WORDS = 2**20
"""The index of a word is that of its example times so many, and its number in it."""


def span_f1(predictions: Tensor, labels: Tensor, index: Tensor, tags: Sequence[str]) -> Tensor:
    """F1 of spans, as `conlleval` counts them: found are those whose tag and both ends are right.

    Args:
        predictions: [N], numbers of tags.
        labels: [N], as many.
        index: [N], of words, in order.
        tags: their names: "O", or B, I, E, S, a hyphen and a type.

    Returns:
        []; 0 where there is no span.
    """
    found, wanted = (_spans([tags[int(one)] for one in numbers], index.tolist()) for numbers in (predictions, labels))
    total = len(found) + len(wanted)
    return torch.tensor(2 * len(found & wanted) / total if total else 0.0, dtype=torch.float64)


def _spans(tags: list[str], index: list[int]) -> set[tuple[str, int, int]]:
    """Type, first and last word of each."""
    spans: set[tuple[str, int, int]] = set()
    last_prefix, last_kind, last_word, first = "O", "", -1, -1
    for tag, word in [*zip(tags, index, strict=True), ("O", -1)]:
        prefix, _, kind = tag.partition("-")
        goes_on = word == last_word + 1 and kind == last_kind and prefix in "IE" and last_prefix in "BI"
        if last_prefix != "O" and not goes_on:
            spans.add((last_kind, first, last_word))
        if not goes_on:
            first = word
        last_prefix, last_kind, last_word = prefix, kind, word
    return spans


class GlueMetrics(Metric):
    """Metrics of a task over all examples seen since the last reset, on all ranks.

    Predictions are kept and every metric is computed from all of them, so batches and ranks cannot change it. An
    example that a sampler gives twice counts once. Every rank must have seen a batch. Where any logit is
    not finite the model has diverged, and every metric is nan.

    Args:
        names: Metrics, the one that is the score first.
        is_regression: Whether labels are numbers, and the model has one output.
        tags: Names of the classes, where `span_f1` is among the metrics; examples are words then (see `WORDS`).

    Raises:
        ValueError: There is no name, or an unknown one.

    Example:
        >>> metric = GlueMetrics(["f1", "accuracy"])
        >>> logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> metric.update(logits, labels=torch.tensor([1, 0, 0, 0]), index=torch.tensor([2, 0, 1, 1]))
        >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
        {'f1': 0.6667, 'accuracy': 0.6667, 'score': 0.6667, 'glue_score': 0.6667}
    """

    full_state_update = False
    is_differentiable = False
    predictions: list[Tensor]
    labels: list[Tensor]
    index: list[Tensor]
    not_finite: Tensor

    def __init__(self, names: Sequence[str], is_regression: bool = False, tags: Sequence[str] = ()) -> None:
        super().__init__()
        known = {*METRICS, *([OF_SPANS] if tags else [])}
        if not names or not known >= set(names):
            raise ValueError(f"names must be some of {', '.join(METRICS)}, got {names}")
        self.names, self.tags = tuple(names), tuple(tags)
        self.is_regression = is_regression
        for state in ("predictions", "labels", "index"):
            self.add_state(state, [], dist_reduce_fx="cat")
        self.add_state("not_finite", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor, index: Tensor) -> None:
        """Add one batch.

        Args:
            logits: [B, C], or [B, 1] of a regression.
            labels: [B], classes, or numbers of a regression.
            index: [B] integer, which example of the split each is.

        Raises:
            ValueError: The shapes do not fit together.
        """
        if logits.ndim != 2 or (logits.shape[1] == 1) != self.is_regression:
            wanted = "1" if self.is_regression else "C > 1"
            raise ValueError(f"logits are {tuple(logits.shape)}, expected [B, {wanted}]")
        for name, values in (("labels", labels), ("index", index)):
            if values.shape != logits.shape[:1]:
                raise ValueError(f"{name} is {tuple(values.shape)}, expected {tuple(logits.shape[:1])}")
        self.not_finite = self.not_finite + logits.isfinite().logical_not().sum()
        self.predictions.append(logits.detach().squeeze(1).float() if self.is_regression else logits.argmax(dim=1))
        self.labels.append(labels)
        self.index.append(index)

    def compute(self) -> dict[str, Tensor]:
        """Each metric by its name, a scalar, and two more.

        Returns:
            The metrics; ``score``, the first of them, which is the paper's; ``glue_score``, GLUE's own: their mean.
        """
        index, kept = np.unique(dim_zero_cat(self.index).cpu(), return_index=True)
        predictions, labels = (dim_zero_cat(state).cpu()[kept] for state in (self.predictions, self.labels))
        if self.is_regression:
            predictions, labels = predictions.double(), labels.double()
        if self.not_finite:
            values = dict.fromkeys(self.names, torch.tensor(torch.nan))
        else:
            metrics = METRICS | {OF_SPANS: partial(span_f1, index=index, tags=self.tags)}
            values = {name: metrics[name](predictions, labels) for name in self.names}
        values = {name: value.to(self.device, SUM_DTYPE) for name, value in values.items()}
        return values | {"score": values[self.names[0]], "glue_score": torch.stack(list(values.values())).mean()}


class Predictions(Metric):
    """What a model says of each example, on all ranks, every example once and in order.

    Every rank must have seen a batch.
    """

    full_state_update = False
    is_differentiable = False
    predictions: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("predictions", "index"):
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, predictions: Tensor, index: Tensor) -> None:
        """Add one batch.

        Args:
            predictions: [B], classes, or numbers of a regression.
            index: [B] integer, which example of the split each is.
        """
        self.predictions.append(predictions)
        self.index.append(index)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Indices and predictions, [N] each on the CPU, by index."""
        index, kept = np.unique(dim_zero_cat(self.index).cpu(), return_index=True)
        return torch.from_numpy(index), dim_zero_cat(self.predictions).cpu()[kept]
