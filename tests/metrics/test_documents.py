"""Means and intervals by document, against counting one by one and resampling by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.kinds import TokenKind, bound_of
from depthlab.metrics import DocumentMetric, bootstrap_intervals, means_over_documents
from depthlab.metrics.documents import PREDICTED_KINDS, DocumentCounts

VOCABULARY, LENGTH, DOCUMENTS, SEQUENCES = 5, 7, 13, 40
ONE_SOURCE = np.zeros(DOCUMENTS)


def sequences(seed):
    draw = torch.Generator().manual_seed(seed)
    kinds = torch.randint(len(TokenKind), (SEQUENCES, LENGTH), generator=draw)
    is_predicted = (kinds >= TokenKind.MASK_MASK) & (kinds <= TokenKind.MASK_ORIGINAL)
    labels = torch.randint(VOCABULARY, kinds.shape, generator=draw).where(is_predicted, torch.tensor(-100))
    return {
        "logits": torch.randn(SEQUENCES, LENGTH, VOCABULARY, generator=draw),
        "labels": labels,
        "kinds": kinds,
        "document": torch.randint(1, DOCUMENTS, (SEQUENCES,), generator=draw),  # the first is never seen
        "sop_logits": torch.randn(SEQUENCES, 2, generator=draw),
        "sentence_order_label": torch.randint(2, (SEQUENCES,), generator=draw),
    }


def measure(batch, cuts=()):
    metric = DocumentMetric(DOCUMENTS)
    for part in zip(*(values.tensor_split(sorted(cuts)) for values in batch.values()), strict=True):
        given_ = dict(zip(batch, part, strict=True))
        logits = given_.pop("logits")
        metric.update(prediction_logits=logits[given_["labels"] != -100], **given_)
    return metric.compute()


def one_by_one(batch, documents):
    """Values of each predicted token and each sequence of some documents, by tag."""
    found = {}
    for row, document in enumerate(batch["document"].tolist()):
        if document not in documents:
            continue
        right = batch["sop_logits"][row].argmax() == batch["sentence_order_label"][row]
        found.setdefault("accuracy/sop", []).append((document, float(right)))
        for place in range(LENGTH):
            label, kind = batch["labels"][row, place].item(), TokenKind(batch["kinds"][row, place].item())
            if label != -100:
                chances = batch["logits"][row, place].double().softmax(-1)
                right = float(chances.argmax() == label)
                found.setdefault("accuracy/mlm", []).append((document, right))
                found.setdefault(f"accuracy/mlm_{kind.name.lower()}", []).append((document, right))
                found.setdefault("loss/mlm", []).append((document, -chances[label].log().item()))
    return found


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), cuts=st.sets(st.integers(1, SEQUENCES - 1), max_size=3))
def test_means_are_those_of_counting(seed, cuts):
    batch = sequences(seed)
    counts = measure(batch, cuts)
    sources = np.arange(DOCUMENTS) % 3
    for source, documents in ((None, range(DOCUMENTS)), (1, range(1, DOCUMENTS, 3))):
        means = means_over_documents(counts, sources, source)
        expected = one_by_one(batch, documents)
        assert means.keys() >= expected.keys() and len(expected) == 6
        for tag, values in expected.items():
            assert means[tag] == pytest.approx(np.mean([value for _, value in values]), rel=1e-5), tag
        tokens = np.bincount([document for document, _ in expected["accuracy/mlm"]], minlength=DOCUMENTS)
        assert means["documents/effective"] == pytest.approx(tokens.sum() ** 2 / (tokens**2).sum())
        assert means["documents/seen"] == len({document for document, _ in expected["accuracy/sop"]})


def test_intervals_are_over_documents():
    batch = sequences(1)
    means = means_over_documents(measure(batch), ONE_SOURCE)
    for tag, values in one_by_one(batch, range(DOCUMENTS)).items():
        documents, numbers = np.unique([document for document, _ in values], return_inverse=True)
        sums = np.bincount(numbers, [value for _, value in values])[:, None]
        assert len(documents) >= 10
        low, high = bootstrap_intervals(sums, np.bincount(numbers)[:, None])[0]
        reach = (high - low) / 10  # other draws
        assert means[bound_of(tag, "low")] == pytest.approx(low, abs=reach), tag
        assert means[bound_of(tag, "high")] == pytest.approx(high, abs=reach), tag


def test_few_documents_have_no_interval():
    """Nor has a total of which a source has but few."""
    counts = measure(sequences(1))
    for sources, source in ((np.arange(DOCUMENTS) // 10, 0), (np.arange(DOCUMENTS) // 12, None)):
        means = means_over_documents(counts, sources, source)
        assert "accuracy/mlm" in means and not [tag for tag in means if "low" in tag or "high" in tag]


def test_one_document():
    batch = sequences(2)
    metric = DocumentMetric(1)
    logits = batch.pop("logits")[batch["labels"] != -100]
    metric.update(prediction_logits=logits, **batch | {"document": torch.zeros_like(batch["document"])})
    assert means_over_documents(metric.compute(), np.zeros(1))["documents/effective"] == 1.0


def nothing(documents):
    """Counts of documents that nothing was seen of."""
    by_kind, one = torch.zeros(documents, len(TokenKind), dtype=torch.int64), torch.zeros(documents, dtype=torch.int64)
    return DocumentCounts(by_kind, by_kind, one.double(), one, one)


def test_nothing_seen_has_no_mean():
    assert means_over_documents(nothing(3), np.zeros(3)) == {"documents/seen": 0.0}


def test_two_novels_among_many_articles_count_for_two():
    """As many documents as it says, where they are equally long; hardly more than the longest, where they are not."""
    counts = nothing(20)
    predicted = counts.predicted.clone()
    for tokens, effective in ((torch.full((20,), 7), 20.0), (torch.tensor([1000, 1000, *[1] * 18]), 2.036)):
        predicted[:, PREDICTED_KINDS[0]] = tokens
        seen = counts._replace(predicted=predicted, sequences=torch.ones(20, dtype=torch.int64))
        assert means_over_documents(seen, np.zeros(20))["documents/effective"] == pytest.approx(effective, abs=1e-3)
