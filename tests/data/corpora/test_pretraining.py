from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from depthlab.data.corpora.corpus import CorpusSource
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.data.corpora.windows import EpochSampler
from depthlab.errors import UserError
from depthlab.kinds import TokenKind

COUNTS = ("window_predicted", "window_sequences")


def as_rank(module, world_size: int = 1, rank: int = 0, accumulate: int = 1):
    """The module as one rank of a run sees it."""
    module.trainer = SimpleNamespace(
        world_size=world_size,
        global_rank=rank,
        accumulate_grad_batches=accumulate,
        fit_loop=SimpleNamespace(
            is_resuming=False,
            epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=0))),
        ),
    )
    return module


def epoch_of(module, epoch: int = 0) -> list[dict]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def rows_of(batches) -> list[tuple]:
    """Each sequence with all its fields, without its padding."""
    rows = []
    for batch in batches:
        for index, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            fields = [
                batch[name][index, :length].tolist() for name in ("input_ids", "labels", "kinds", "token_type_ids")
            ]
            rows.append((*map(tuple, fields), int(batch["sentence_order_label"][index])))
    return rows


def test_batches(make_module):
    module = make_module()
    assert len(module.tokenizer) == module.vocab_size == 600
    for batch in epoch_of(module):
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())
        B, T = batch["input_ids"].shape
        assert T == batch["attention_mask"].sum(1).max() <= module.max_length == 64
        for name in ("attention_mask", "token_type_ids", "labels", "kinds"):
            assert batch[name].shape == (B, T)
        assert batch["sentence_order_label"].shape == (B,)
        padding = batch["attention_mask"] == 0
        assert torch.equal(padding, batch["kinds"] == TokenKind.PAD)
        assert (batch["input_ids"][padding] == module.tokenizer.pad_token_id).all()
        assert (batch["labels"][padding] == -100).all()
        assert (batch["window_predicted"].shape, batch["window_sequences"].shape) == ((), ())
        assert batch["window_predicted"] == (batch["labels"] != -100).sum()
        assert batch["window_sequences"] == B


def test_epoch_takes_every_sample_once_and_masks_afresh(make_module):
    module = make_module()
    first, second = (rows_of(epoch_of(module, epoch)) for epoch in (0, 1))
    assert len(first) == module.summary["train_chunks"]
    assert rows_of(epoch_of(module, 0)) == first
    assert not set(first) & set(second)


def test_workers_change_nothing(make_module):
    assert rows_of(epoch_of(make_module(num_workers=2), 3)) == rows_of(epoch_of(make_module(), 3))


def test_persistent_workers_follow_the_epoch(make_module):
    loader = make_module(num_workers=1).train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        assert rows_of(loader) == rows_of(epoch_of(make_module(), epoch))


def test_batch_size_changes_neither_order_nor_masks(make_module):
    assert rows_of(epoch_of(make_module(batch_size=16), 1)) == rows_of(epoch_of(make_module(batch_size=50), 1))


@pytest.mark.parametrize(("world_size", "accumulate"), [(4, 1), (1, 4), (2, 2), (4, 2)])
def test_steps_are_the_same_however_they_are_cut(make_module, world_size, accumulate):
    samples, pieces = make_module().summary["train_chunks"], world_size * accumulate
    rest = samples % 64
    assert rest > pieces
    assert rest % pieces, "the last step must be ragged for this test to say much"
    whole = epoch_of(make_module())
    ranks = [epoch_of(as_rank(make_module(), world_size, rank, accumulate)) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    for step, expected in enumerate(whole):
        window = [rank[step * accumulate : (step + 1) * accumulate] for rank in ranks]
        together = [batch for rank in window for batch in rank]
        assert rows_of(together) == rows_of([expected])
        sizes = [len(batch["input_ids"]) for batch in together]
        assert max(sizes) - min(sizes) <= 1
        for rank in window:  # each micro-batch knows the whole window of its rank
            assert {int(b["window_sequences"]) for b in rank} == {sum(len(b["input_ids"]) for b in rank)}
            assert {int(b["window_predicted"]) for b in rank} == {sum(int((b["labels"] != -100).sum()) for b in rank)}
        for name in COUNTS:
            assert sum(int(rank[0][name]) for rank in window) == int(expected[name])


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
    assert len(rows_of(epoch_of(module))) == round(sizes[0] * 0.5) + 3 * sizes[1]
    assert module.summary["documents"] == 32
    assert module.summary["train_chunks"] == sum(sizes)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_validation_samples_once_on_as_many_batches(make_module, world_size):
    module = make_module()
    expected = rows_of(module.val_dataloader())
    assert len(expected) == module.summary["validation_chunks"]
    ranks = [list(as_rank(make_module(batch_size=42), world_size, rank).val_dataloader()) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    assert Counter(row for rank in ranks for row in rows_of(rank)) == Counter(expected)
    sizes = [len(batch["input_ids"]) for rank in ranks for batch in rank]
    assert 0 < min(sizes) >= max(sizes) - 1
    assert max(sizes) <= 42 // world_size
    assert all(batch["window_sequences"] == len(batch["input_ids"]) for rank in ranks for batch in rank)


def test_validation_batches_say_which_document_they_come_from(make_module, corpus, chapters, tmp_path):
    """Two sources whose documents have the same numbers: they are told apart."""
    (tmp_path / "other.txt").write_text("\n\n".join(chapters[:8]).upper())
    module = make_module(corpus=[str(corpus), str(tmp_path)], validation_fraction=0.3)
    numbers = torch.cat([batch["document"] for batch in module.val_dataloader()])
    assert set(numbers.tolist()) == set(range(module.summary["validation_documents"]))
    assert module.validation_documents == module.summary["validation_documents"]
    assert "document" not in next(iter(module.train_dataloader()))


def test_no_text_is_on_both_sides(make_module):
    module = make_module()

    def texts(loader):
        return {tuple(np.where(np.array(row[1]) == -100, row[0], row[1])) for row in rows_of(loader)}

    assert not texts(module.train_dataloader()) & texts(module.val_dataloader())


def test_validation_with_micro_batches_of_one(make_module):
    """More pieces than samples would leave a rank without a batch: they get larger instead."""
    count = make_module().summary["validation_chunks"]
    world_size = next(size for size in range(2, count) if count % size)
    ranks = [
        list(as_rank(make_module(batch_size=world_size), world_size, rank).val_dataloader())
        for rank in range(world_size)
    ]
    assert {len(rank) for rank in ranks} == {count // world_size}
    assert sum(len(batch["input_ids"]) for rank in ranks for batch in rank) == count
    with pytest.raises(UserError, match=rf"{count} validation samples cannot feed {count + 1} ranks"):
        as_rank(make_module(batch_size=count + 1), count + 1).val_dataloader()


def test_batch_that_cannot_be_cut(make_module):
    with pytest.raises(UserError, match=r"data\.batch_size 64 .* 3 ranks x 2"):
        as_rank(make_module(), 3, 0, 2).train_dataloader()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vocab_size", 5),
        ("max_length", 4),
        ("short_sequence_probability", 1.1),
        ("mask_ratio", 0.0),
        ("mask_ratio", 1.0),
        ("max_predictions", 0),
        ("batch_size", 0),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("num_workers", -1),
        ("prepare_workers", 0),
        ("seed", -1),
    ],
)
def test_settings_out_of_range(make_module, name, value):
    with pytest.raises(UserError, match=rf"^data\.{name} is {value}"):
        make_module(set_up=False, **{name: value})


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


def test_one_sided_splits(make_module):
    with pytest.raises(UserError, match="holds out none of the 24 documents; raise"):
        make_module(validation_fraction=1e-9)
    with pytest.raises(UserError, match=r"leaves no document of .* to train on; lower"):
        make_module(validation_fraction=1 - 1e-9)


def test_other_vocabulary_size(make_module, cache):
    make_module()
    tokenizer = next(path for path in cache.glob("tokenizer-*"))
    with pytest.raises(UserError, match=r"data\.vocab_size is 5000, but the tokenizer has \d+ pieces"):
        make_module(tokenizer=str(tokenizer), vocab_size=5000)
