"""GLUE's metrics against scikit-learn and SciPy; in two processes: test_distributed.py."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from depthlab.metrics.glue import GlueMetrics

CLASSIFICATION = ("matthews_corrcoef", "accuracy", "f1")
REGRESSION = ("spearman", "pearson")


def examples(seed, count=50, classes=2, is_regression=False):
    """Logits [N, C] and labels [N]: related, with ties among the labels; sometimes a side has one value only."""
    random = np.random.default_rng(seed)
    if is_regression:
        labels = random.integers(0, random.integers(1, 12), count) / 2
        logits = (labels + random.normal(0, random.choice([0.0, 0.3, 3.0]), count))[:, None]
        if seed % 7 == 0:
            logits[:] = logits.mean()
        return torch.as_tensor(logits, dtype=torch.float32), torch.as_tensor(labels, dtype=torch.float32)
    labels = random.integers(0, random.integers(1, classes + 1), count)
    logits = random.normal(0, 1, (count, classes)) + 2 * np.eye(classes)[labels]
    logits[:, random.integers(classes)] += random.choice([0, 0, 20])
    return torch.as_tensor(logits), torch.as_tensor(labels)


def reference(logits, labels, names):
    labels = labels.numpy()
    predictions = logits[:, 0].numpy() if logits.shape[1] == 1 else logits.numpy().argmax(1)
    functions = {
        "matthews_corrcoef": lambda: matthews_corrcoef(labels, predictions),
        "accuracy": lambda: accuracy_score(labels, predictions),
        "f1": lambda: f1_score(labels, predictions, zero_division=0),
        "pearson": lambda: np.nan_to_num(pearsonr(predictions.astype(float), labels.astype(float)).statistic),
        "spearman": lambda: np.nan_to_num(spearmanr(predictions, labels).statistic),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what is undefined
        values = {name: float(functions[name]()) for name in names}
    return values | {"score": values[names[0]], "glue_score": np.mean([values[name] for name in names])}


def measure(parts, names, is_regression=False):
    metric = GlueMetrics(names, is_regression)
    for part in parts:
        metric.update(*part)
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize(("names", "classes"), [(CLASSIFICATION, 2), (("accuracy",), 3), (REGRESSION, 1)])
@given(seed=st.integers(0, 2**16), count=st.integers(2, 80), cuts=st.lists(st.integers(1, 79), max_size=3))
def test_equal_to_scikit_learn_and_scipy(names, classes, seed, count, cuts):
    is_regression = names == REGRESSION
    logits, labels = examples(seed, count, classes, is_regression)
    parts = zip(*(values.tensor_split(sorted(cuts)) for values in (logits, labels, torch.arange(count))), strict=True)
    assert measure(parts, names, is_regression) == pytest.approx(reference(logits, labels, names), abs=1e-6)


@pytest.mark.parametrize("predicted", [0, 1])
@pytest.mark.parametrize("label", [0, 1])
def test_undefined_is_zero(predicted, label):
    """torchmetrics alone calls the Matthews correlation 1 when everything is of one class."""
    logits = torch.eye(2)[[predicted] * 5]
    values = measure([(logits, torch.full((5,), label), torch.arange(5))], CLASSIFICATION)
    assert values["matthews_corrcoef"] == 0
    assert values["f1"] == (predicted == label == 1)
    numbers = measure([(logits[:, :1], torch.arange(5.0), torch.arange(5))], REGRESSION, True)
    assert set(numbers.values()) == {0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(("names", "is_regression"), [(CLASSIFICATION, False), (REGRESSION, True)])
def test_a_model_that_has_diverged_has_no_score(bad, names, is_regression):
    logits = torch.randn(6, 1 if is_regression else 2)
    logits[4, 0] = bad
    labels = torch.arange(6.0) if is_regression else torch.arange(6) % 2
    batches = [(logits[part], labels[part], part) for part in torch.arange(6).split(4)]
    assert all(math.isnan(value) for value in measure(batches, names, is_regression).values())
    assert not any(math.isnan(value) for value in measure(batches[:1], names, is_regression).values())


def test_duplicates_count_once():
    logits, labels = examples(3, 21)
    rows = torch.cat([torch.randperm(21), torch.tensor([0, 4, 4])])
    values = measure([(logits[part], labels[part], part) for part in rows.split(8)], CLASSIFICATION)
    assert values == pytest.approx(reference(logits, labels, CLASSIFICATION), abs=1e-6)


def test_reset_in_inference_mode_and_used_outside():
    metric = GlueMetrics(["f1", "accuracy"])
    with torch.inference_mode():
        metric.update(*examples(0), torch.arange(50))
        metric.reset()
    logits, labels = examples(1)
    metric.update(logits, labels, torch.arange(50))
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values == pytest.approx(reference(logits, labels, ["f1", "accuracy"]), abs=1e-6)


def test_rejects():
    with pytest.raises(ValueError, match="names must be some of matthews_corrcoef, accuracy"):
        GlueMetrics(["recall"])
    with pytest.raises(ValueError, match="names"):
        GlueMetrics([])
    logits, labels, index = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), torch.arange(3)
    with pytest.raises(ValueError, match=r"logits are \(3, 1\), expected \[B, C > 1\]"):
        GlueMetrics(["f1"]).update(logits[:, :1], labels, index)
    with pytest.raises(ValueError, match=r"logits are \(3, 2\), expected \[B, 1\]"):
        GlueMetrics(["pearson"], is_regression=True).update(logits, labels, index)
    with pytest.raises(ValueError, match=r"labels is \(2,\)"):
        GlueMetrics(["f1"]).update(logits, labels[:2], index)
    with pytest.raises(ValueError, match=r"index is \(2,\)"):
        GlueMetrics(["f1"]).update(logits, labels, index[:2])
