"""What all data modules promise: the same steps whatever ranks, pieces, workers and interrupts; every sample once."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule

from depthlab.data.treebanks.treebank import TreebankDataModule
from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED, TokenKind
from tests.support import as_rank, epoch_of, quiet_trainer, sequences

TRAINED = ("pretraining", "glue", "probing")
trained = pytest.mark.parametrize("kind", TRAINED)
every = pytest.mark.parametrize("kind", (*TRAINED, "treebank"))


def evaluation(module):
    """What every sample is taken from once."""
    if isinstance(module, TreebankDataModule):
        return module.predict_dataloader()
    loaders = module.val_dataloader()
    return loaders[0] if isinstance(loaders, list) else loaders


def sizes(batches):
    return [len(batch["input_ids"]) for batch in batches]


@every
def test_batches(make_data, kind):
    module = make_data(kind)
    for batch in [*evaluation(module), *(epoch_of(module) if kind in TRAINED else ())]:
        B, T = batch["input_ids"].shape
        assert batch["attention_mask"].sum(1).max() == T <= module.max_length
        for name, tensor in batch.items():
            assert tensor.dtype == torch.int64
            assert tensor.shape == (B, T)[: tensor.ndim], name
        padding = batch["attention_mask"] == 0
        assert torch.equal(padding, batch["kinds"] == TokenKind.PAD)
        assert (batch["input_ids"][padding] == module.tokenizer.pad_token_id).all()
        assert batch["window_sequences"].ndim == 0 and batch["window_sequences"] == B
        if kind == "pretraining":
            assert (batch["labels"][padding] == NOT_PREDICTED).all()
            assert batch["window_predicted"] == (batch["labels"] != NOT_PREDICTED).sum()


def trained_on(module, kind):
    """How many samples an epoch has."""
    if kind == "pretraining":
        return sum(source["training"]["chunks"] for source in module.summary["sources"])
    return module.summary["train"]


@trained
def test_an_epoch_takes_every_sample_once_in_an_order_of_its_own(make_data, kind):
    module = make_data(kind)
    first, second = (sequences(epoch_of(module, epoch)) for epoch in (0, 1))
    assert len(set(first)) == len(first) == trained_on(module, kind)
    assert len(first) == len(second) and first != second
    assert sequences(epoch_of(module, 0)) == first
    assert sequences(epoch_of(make_data(kind, seed=1), 0)) != first


@every
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make_data, kind, workers):
    """They stay from one epoch to the next, and follow it."""
    module = make_data(kind, num_workers=workers)
    assert sequences(evaluation(module)) == sequences(evaluation(make_data(kind)))
    if kind in TRAINED:
        loader = module.train_dataloader()
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            assert sequences(loader) == sequences(epoch_of(make_data(kind), epoch))


@trained
@pytest.mark.parametrize(("world_size", "accumulate"), [(4, 1), (1, 4), (2, 2), (4, 2)])
def test_steps_are_the_same_however_they_are_cut(make_data, kind, world_size, accumulate):
    whole = epoch_of(make_data(kind))
    assert any(size % (world_size * accumulate) for size in sizes(whole)), "ragged steps, or this does not say much"
    ranks = [epoch_of(as_rank(make_data(kind), world_size, rank, accumulate)) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(whole) * accumulate}
    for step, expected in enumerate(whole):
        windows = [rank[step * accumulate : (step + 1) * accumulate] for rank in ranks]
        together = [batch for window in windows for batch in window]
        assert sequences(together) == sequences([expected])
        assert max(sizes(together)) - min(sizes(together)) <= 1
        counts = {"window_sequences": sizes}
        if kind == "pretraining":
            counts["window_predicted"] = lambda batches: [(batch["labels"] != NOT_PREDICTED).sum() for batch in batches]
        for name, count in counts.items():
            for window in windows:  # each micro-batch knows the whole window of its rank
                assert {int(batch[name]) for batch in window} == {int(sum(count(window)))}
            assert sum(int(window[0][name]) for window in windows) == int(expected[name])


@every
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_takes_every_sample_once_on_as_many_batches(make_data, kind, world_size):
    expected = sequences(evaluation(make_data(kind)))
    assert len(set(expected)) == len(expected)
    ranks = [list(evaluation(as_rank(make_data(kind, batch_size=42), world_size, rank))) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    batches = [batch for rank in ranks for batch in rank]
    assert Counter(sequences(batches)) == Counter(expected)
    assert 0 < min(sizes(batches)) >= max(sizes(batches)) - 1 and max(sizes(batches)) <= 42 // world_size
    assert all(batch["window_sequences"] == size for batch, size in zip(batches, sizes(batches), strict=True))


@every
def test_evaluation_with_micro_batches_of_one(make_data, kind):
    """More pieces than samples would leave a rank without a batch: they get larger instead."""
    count = len(sequences(evaluation(make_data(kind))))
    world_size = next(size for size in range(2, count) if count % size)
    module = make_data(kind, batch_size=world_size)
    ranks = [list(evaluation(as_rank(module, world_size, rank))) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {count // world_size}
    assert sum(sum(sizes(rank)) for rank in ranks) == count
    with pytest.raises(UserError, match=rf"{count} \D* cannot feed {count + 1} ranks"):
        evaluation(as_rank(make_data(kind, batch_size=count + 1), count + 1))


@every
def test_batch_that_cannot_be_cut(make_data, kind):
    with pytest.raises(UserError, match=r"data\.batch_size (16|64) .* 3 ranks x 2"):
        evaluation(as_rank(make_data(kind), 3, 0, 2))
    if kind in TRAINED:
        with pytest.raises(UserError, match=r"data\.batch_size (16|64) .* 3 ranks x 2"):
            as_rank(make_data(kind), 3, 0, 2).train_dataloader()


OUT_OF_RANGE = {
    "pretraining": {"vocab_size": [5], "short_sequence_probability": [1.1], "mask_ratio": [0.0, 1.0]}
    | {
        "max_predictions": [0],
        "validation_fraction": [-0.1, 1.1],
        "test_fraction": [0.9],
        "split_seed": [-1],
        "prepare_workers": [0],
    },
    "glue": {"task": ["snli"], "max_length": [4], "train_examples": [0], "seed": [-1]},
    "probing": {"task": ["snli"], "train_examples": [0], "seed": [-1]},
    "treebank": {},
}


@every
def test_settings_out_of_range(make_data, kind):
    for name, values in {"batch_size": [0], "num_workers": [-1], "max_length": [2], **OUT_OF_RANGE[kind]}.items():
        for value in values:
            with pytest.raises(UserError, match=rf"^data\.{name} is {value}; it must be"):
                make_data(kind, set_up=False, **{name: value})


# An interrupted and resumed run sees what an uninterrupted one sees, in real Lightning trainers

STEPS = 3  # of an epoch, not all of one size


class Recorder(LightningModule):
    """Keeps what every optimiser step has seen: of each micro-batch its sequences, and its counts of the window."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.pending, self.steps = [], []

    def training_step(self, batch):
        counts = {name: int(count) for name, count in batch.items() if name.startswith("window")}
        self.pending.append((sequences([batch]), counts))
        return (self.weight * batch["labels"].float().mean()).sum()

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.steps.append(self.pending)
        self.pending = []

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    """Saves a checkpoint in one hook, at one of its calls, and ends the run there."""

    def __init__(self, path: Path, hook: str, call: int):
        self.path, self.calls_left = path, call
        setattr(self, hook, self.count)

    def count(self, trainer, *args):
        self.calls_left -= 1
        if self.calls_left == 0:
            trainer.save_checkpoint(self.path)
            raise InterruptedRun


class InterruptedRun(Exception):
    pass


def fit(module, limits: dict, accumulate: int = 2, callbacks=(), ckpt_path=None) -> list:
    recorder = Recorder()
    limits = {"accumulate_grad_batches": accumulate, "num_sanity_val_steps": 0} | limits
    trainer = quiet_trainer(callbacks=list(callbacks), **limits)
    if callbacks:
        with pytest.raises(InterruptedRun):
            trainer.fit(recorder, datamodule=module)
    else:
        trainer.fit(recorder, datamodule=module, ckpt_path=ckpt_path, weights_only=False if ckpt_path else None)
        assert trainer.global_step == 3 * STEPS
    return recorder.steps


@pytest.fixture
def make_steps(make_data):
    """A module of a kind whose epoch has so many steps."""

    def make(kind: str, **changes):
        if kind == "pretraining":
            samples = trained_on(make_data(kind), kind)
            return make_data(kind, set_up=False, batch_size=samples // (STEPS - 1) // 4 * 4 - 20, **changes)
        return make_data(kind, set_up=False, batch_size=8, **changes)

    return make


BY_STEPS = {"max_steps": 3 * STEPS, "max_epochs": -1}
LIMITS = {
    "epochs": {"max_epochs": 3, "limit_val_batches": 0},
    "steps": BY_STEPS | {"limit_val_batches": 0},
    "epochs with validation": {"max_epochs": 3},
    "steps with validation": BY_STEPS | {"val_check_interval": 1.0},
    "validation by steps": BY_STEPS | {"val_check_interval": 4, "check_val_every_n_epoch": None},
}
SAVES = {
    "on_train_batch_end": [1, 2, 5, 6, 7, 8],  # inside a window and at its end, of epoch and run
    "on_train_batch_start": [1, 6, 7],
    "on_train_epoch_end": [1],
    "on_train_epoch_start": [2],
    "on_validation_end": [1],
}
ELSEWHERE = {
    (kind, hook) for kind in TRAINED if kind != "pretraining" for hook in SAVES if hook != "on_train_batch_end"
}
HARDLY_DIFFERENT = {"on_train_batch_end": ("epochs", "steps"), "on_train_batch_start": [*LIMITS][:2] + [*LIMITS][3:]}
"""Both are left to the full tests: they hardly differ from pre-training's, and at one place from another."""


@pytest.mark.parametrize(
    ("kind", "limits", "hook"),
    [
        pytest.param(
            kind,
            limits,
            hook,
            id=f"{kind}, {name}, {hook}",
            marks=[pytest.mark.full] * ((kind, hook) in ELSEWHERE or name in HARDLY_DIFFERENT.get(hook, LIMITS)),
        )
        for kind in TRAINED
        for name, limits in LIMITS.items()
        for hook in SAVES
        if hook != "on_validation_end" or limits.get("limit_val_batches") != 0
        if kind == "pretraining" or name == "epochs with validation"  # where the progress is kept is the same for all
    ],
)
def test_resumed_run_sees_the_same_steps(make_steps, tmp_path, kind, limits, hook):
    whole = fit(make_steps(kind), limits)
    assert len(whole) == 3 * STEPS
    assert len({sum(len(rows) for rows, _ in step) for step in whole}) > 1
    for call in SAVES[hook]:
        before = fit(make_steps(kind), limits, callbacks=[SaveAt(tmp_path / "x.ckpt", hook, call)])
        after = fit(make_steps(kind), limits, ckpt_path=tmp_path / "x.ckpt")
        assert before + after == whole, f"call {call}"


@trained
def test_workers_change_nothing_when_a_run_resumes(make_steps, tmp_path, kind):
    """Prefetching workers have read ahead of the checkpoint, across the end of the epoch too."""
    whole = fit(make_steps(kind), LIMITS["steps with validation"])
    save = SaveAt(tmp_path / "x.ckpt", "on_train_batch_end", 4)
    before = fit(make_steps(kind, num_workers=2), LIMITS["steps"], callbacks=[save])
    after = fit(make_steps(kind, num_workers=2), LIMITS["steps"], ckpt_path=tmp_path / "x.ckpt")
    assert before + after == whole


@trained
@pytest.mark.parametrize("call", [3, 4, 6, 8])
def test_resume_with_another_accumulation(make_steps, tmp_path, kind, call):
    """The same steps, cut into more pieces: a machine with less memory can take over."""

    def uncut(steps):
        return [[row for rows, _ in step for row in rows] for step in steps]

    whole = fit(make_steps(kind), LIMITS["steps"])
    before = fit(make_steps(kind), LIMITS["steps"], callbacks=[SaveAt(tmp_path / "x.ckpt", "on_train_batch_end", call)])
    after = fit(make_steps(kind), LIMITS["steps"], accumulate=4, ckpt_path=tmp_path / "x.ckpt")
    assert all(len(step) == 4 for step in after)
    assert uncut(before + after) == uncut(whole)
