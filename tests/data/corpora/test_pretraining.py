from collections import Counter

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from depthlab.data.corpora.corpus import CorpusSource
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.corpora.windows import EpochSampler
from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED
from tests.support import UNIGRAM, epoch_of, sequences


def test_every_epoch_masks_afresh(make_module):
    module = make_module()
    assert len(module.tokenizer) == module.vocab_size == 600
    first, second = (sequences(epoch_of(module, epoch)) for epoch in (0, 1))
    assert not set(first) & set(second)


def test_batch_size_changes_neither_order_nor_masks(make_module):
    assert sequences(epoch_of(make_module(batch_size=16), 1)) == sequences(epoch_of(make_module(batch_size=50), 1))


def test_left_over_samples_are_dropped_when_a_piece_would_be_empty():
    rows = [np.arange(35)]
    for batch_size, world_size, accumulate, steps in ((10, 5, 1, 4), (10, 1, 5, 4), (30, 3, 2, 1), (30, 1, 5, 2)):
        for rank in range(world_size):
            windows = list(EpochSampler(rows, [1.0], batch_size, 0, world_size, rank, accumulate))
            assert len(windows) == steps  # 5 are left over: 5 pieces can share them, 6 cannot
            assert all(len(piece) for window in windows for piece in window.samples)
    with pytest.raises(UserError, match="35 training samples"):
        EpochSampler(rows, [1.0], 36, 0, world_size=36)


def test_weights():
    """A weight is how many passes over a source one epoch takes."""
    sampler = EpochSampler([np.arange(10), np.arange(10, 50), np.arange(50, 57)], [2.0, 0.5, 1.0], batch_size=8, seed=0)
    epochs = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        windows = list(sampler)
        rows = np.concatenate([window.rows[0] for window in windows])
        numbers = np.concatenate([window.samples[0] for window in windows])
        assert sorted(numbers) == list(range(47))  # what the masks are seeded with: the second pass has others
        epochs.append(Counter(rows.tolist()))
    for rows in epochs:
        assert all(rows[row] == 2 for row in range(10))
        assert all(rows[row] == 1 for row in range(50, 57))
        assert sum(rows[row] for row in range(10, 50)) == 20
    for one, other in ((0, 1), (2, 3)):  # two epochs make one pass
        assert all(epochs[one][row] + epochs[other][row] == 1 for row in range(10, 50))
    halves = [row for row in range(10, 50) if epochs[0][row]]
    assert halves != list(range(10, 30))  # no contiguous half: documents are spread


def test_several_sources(make_module, corpus, chapters, tmp_path):
    (tmp_path / "other.txt").write_text("\n\n".join(chapters[:8]).upper())
    sources = [{"path": str(corpus), "weight": 0.5}, {"path": str(tmp_path), "weight": 3}]
    module = make_module(corpus=sources, validation_fraction=0.3)
    sizes = [len(rows) for rows in module._train_rows]
    assert len(sequences(epoch_of(module))) == round(sizes[0] * 0.5) + 3 * sizes[1]
    assert module.summary["documents"] == 32
    assert [source["training"]["chunks"] for source in module.summary["sources"]] == sizes


@pytest.mark.parametrize(("stage", "part"), [("val", "development"), ("test", "test")])
def test_evaluation_batches_say_which_document_they_come_from(make_module, corpus, chapters, tmp_path, stage, part):
    """Two sources whose documents have the same numbers: they are told apart, and say of which source they are."""
    (tmp_path / "other.txt").write_text("\n\n".join(" ".join(chapter.split()[::-1]) for chapter in chapters[:8]))
    module = make_module(corpus=[str(corpus), str(tmp_path)], validation_fraction=0.3, test_fraction=0.3)
    batches = module.val_dataloader() if stage == "val" else module.test_dataloader()
    numbers = torch.cat([batch["document"] for batch in batches])
    counts = [source[part]["documents"] for source in module.summary["sources"]]
    assert min(counts) > 0 and Counter(module.documents[stage].tolist()) == dict(enumerate(counts))
    assert set(numbers.tolist()) == set(range(sum(counts)))
    assert len(numbers) == sum(source[part]["chunks"] for source in module.summary["sources"])
    assert "document" not in next(iter(module.train_dataloader()))


def test_no_text_is_in_two_parts(make_module):
    module = make_module()

    def texts(loader):
        return {
            tuple(ids[ids > 0].tolist())
            for batch in loader
            for ids in torch.where(batch["labels"] == NOT_PREDICTED, batch["input_ids"], batch["labels"])
        }

    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    train, development, test = map(texts, loaders)
    assert train and development and test
    assert not train & development and not train & test and not development & test


def test_corpus_on_the_command_line(tmp_path):
    """A file is a corpus, though it reads like settings; a mapping is a source."""
    (tmp_path / "c.txt").write_text("path: other")
    path = str(tmp_path / "c.txt")
    parser = ArgumentParser()
    parser.add_class_arguments(PretrainingDataModule, "data")
    for given, expected in (
        (path, CorpusSource(path)),
        (f'{{"path": "{path}", "weight": 2}}', CorpusSource(path, weight=2)),
        (f'["{path}"]', CorpusSource(path)),
        (f'[{{"path": "{path}", "weight": 2}}]', CorpusSource(path, weight=2)),
    ):
        parsed = parser.parse_args([f"--data.corpus={given}"])
        assert parser.instantiate_classes(parsed).data.sources == [expected]


def test_parts_that_are_empty(make_data, corpus):
    """Only where they are needed."""
    given = {"tokenizer": str(UNIGRAM), "vocab_size": 8000}
    both = given | {"validation_fraction": 0.5, "test_fraction": 0.5}
    for stage in ("validate", "test"):
        make_data("pretraining", stage, **both)
    with pytest.raises(UserError, match=r"leave no document of .* to train on; lower"):
        make_data("pretraining", **both)
    source = {"path": str(corpus), "part": "test"}
    assert len(make_data("pretraining", "test", corpus=source, **given).documents["test"]) == 24
    with pytest.raises(UserError, match=r"validation_fraction 0.2 holds out none of the 24 documents; raise"):
        make_data("pretraining", "validate", corpus=source, **given)
    with pytest.raises(UserError, match=r"tokenizer is null, and all documents are held out"):
        make_data("pretraining", "test", corpus=source)


def test_a_given_tokenizer_has_a_vocabulary_of_its_own(make_module):
    tokenizer = make_module()._prepared.tokenizer
    assert len(make_module(tokenizer=str(tokenizer), vocab_size=5000).tokenizer) == 600
