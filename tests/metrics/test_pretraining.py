import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score
from torch.nn.functional import cross_entropy

from depthlab.metrics import PretrainingMetrics

VOCABULARY = 7


def random_sequences(seed, sequences=6, length=8):
    """What a model and a collator would give: labels [B, T], logits [B, T, V], SOP logits and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, VOCABULARY, (sequences, length), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.7] = -100
    labels[0, 0] = 1  # at least one is predicted
    labels[-1] = -100  # and one sequence has none
    return {
        "labels": labels,
        "logits": 3 * torch.randn(sequences, length, VOCABULARY, generator=generator),
        "sop_logits": torch.randn(sequences, 2, generator=generator),
        "sentence_order_label": torch.randint(0, 2, (sequences,), generator=generator),
    }


def update(metric, *, labels, logits, sop_logits, sentence_order_label):
    metric.update(logits[labels != -100], labels, sop_logits, sentence_order_label)


def reference(*, labels, logits, sop_logits, sentence_order_label):
    """The same by numpy and scikit-learn."""
    predicted = labels != -100
    targets, predictions = labels[predicted].numpy(), logits[predicted].double()
    sop_targets = sentence_order_label.numpy()
    shares = np.unique(targets, return_counts=True)[1] / len(targets)
    return {
        "accuracy/mlm": accuracy_score(targets, predictions.numpy().argmax(-1)),
        "accuracy/sop": accuracy_score(sop_targets, sop_logits.numpy().argmax(-1)),
        "unigram_entropy": -(shares * np.log(shares)).sum(),
    }


def to_floats(result):
    return {name: value.item() for name, value in result.items()}


@given(seed=st.integers(0, 2**16), cuts=st.sets(st.integers(1, 5)))
def test_means_do_not_depend_on_the_batches(seed, cuts):
    sequences = random_sequences(seed)
    metric = PretrainingMetrics(VOCABULARY)
    parts = zip(*(values.tensor_split(sorted(cuts)) for values in sequences.values()), strict=True)
    for part in parts:
        update(metric, **dict(zip(sequences, part, strict=True)))
    assert to_floats(metric.compute()) == pytest.approx(reference(**sequences), rel=1e-5, abs=1e-6)


def test_the_unigram_entropy_is_the_loss_of_the_best_blind_predictor():
    sequences = random_sequences(3)
    targets = sequences["labels"][sequences["labels"] != -100]
    frequencies = torch.bincount(targets, minlength=VOCABULARY) / len(targets)
    sequences["logits"] = frequencies.log().expand_as(sequences["logits"])
    metric = PretrainingMetrics(VOCABULARY)
    update(metric, **sequences)
    result = to_floats(metric.compute())
    targets, logits = sequences["labels"], sequences["logits"].double()
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert loss.item() == pytest.approx(result["unigram_entropy"], rel=1e-6)


def test_nothing_predicted_at_all():
    sequences = random_sequences(0)
    sequences["labels"].fill_(-100)
    metric = PretrainingMetrics(VOCABULARY)
    update(metric, **sequences)
    result = to_floats(metric.compute())
    undefined = {name for name, value in result.items() if np.isnan(value)}
    assert undefined == {"accuracy/mlm", "unigram_entropy"}


def test_reset_in_inference_mode_and_used_outside():
    metric = PretrainingMetrics(VOCABULARY)
    with torch.inference_mode():
        update(metric, **random_sequences(0))
        metric.reset()
    update(metric, **random_sequences(1))
    assert to_floats(metric.compute()) == pytest.approx(reference(**random_sequences(1)), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("prediction_logits", (2, VOCABULARY + 1)), ("sop_logits", (3, 2)), ("sentence_order_label", (1,))],
)
def test_rejects_shapes(name, shape):
    arguments = {
        "prediction_logits": torch.zeros(2, VOCABULARY),
        "labels": torch.tensor([[1, -100], [-100, 2]]),
        "sop_logits": torch.zeros(2, 2),
        "sentence_order_label": torch.tensor([0, 1]),
    }
    with pytest.raises(ValueError, match=name):
        PretrainingMetrics(VOCABULARY).update(**arguments | {name: torch.zeros(shape)})


def test_rejects_no_vocabulary():
    with pytest.raises(ValueError, match="vocab_size"):
        PretrainingMetrics(0)
