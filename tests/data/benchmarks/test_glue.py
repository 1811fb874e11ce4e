import copy
import functools
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from depthlab.data.benchmarks import labelled
from depthlab.data.benchmarks.glue import GlueDataModule
from depthlab.data.benchmarks.glue_tasks import TASKS
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from tests.data.corpora.test_pretraining import as_rank
from tests.data.corpora.test_resume import InterruptedRun, SaveAt

from .glue_fixtures import ROWS, write_glue, write_tsv

SHARED = Path(__file__).parents[3].parent / "shared/data"
load_once = functools.cache(load_tokenizer)
NANO = str(Path(__file__).parents[3] / "checkpoints/nano")


@pytest.fixture(autouse=True)
def quick_tokenizer(monkeypatch):
    """Loading takes longer than most of these tests. Copies, since use leaves its marks on a tokenizer."""
    monkeypatch.setattr(labelled, "load_tokenizer", lambda path: copy.deepcopy(load_once(path)))


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"))


@pytest.fixture
def own_root(tmp_path) -> Path:
    """One to write in."""
    return write_glue(tmp_path / "glue")


@pytest.fixture
def make(root, cache):
    def make(task: str, stage: str | None = "fit", **settings) -> GlueDataModule:
        defaults = {"root": str(root), "tokenizer": NANO, "batch_size": 8, "num_workers": 0, "cache_dir": str(cache)}
        module = GlueDataModule(task, **(defaults | settings))
        module.prepare_data()
        module.setup(stage)
        return module

    return make


def epoch_of(module, epoch: int = 0) -> list[dict]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def indices(batches) -> list[int]:
    return [index for batch in batches for index in batch["index"].tolist()]


@pytest.mark.parametrize("task", TASKS)
def test_batches(make, task):
    module = make(task)
    pair = len(module.task.texts) == 2
    for batch in epoch_of(module):
        B, T = batch["input_ids"].shape
        assert batch["attention_mask"].sum(1).max() == T
        assert batch["attention_mask"].shape == batch["token_type_ids"].shape == (B, T)
        assert batch["labels"].shape == batch["index"].shape == (B,)
        assert batch["window_sequences"] == B <= 8
        assert {name: tensor.dtype for name, tensor in batch.items() if tensor.dtype != torch.int64} == (
            {"labels": torch.float32} if task == "stsb" else {}
        )
        assert ((batch["token_type_ids"] == 1).any(1) == pair).all()  # what v5 tokenizers drop unless asked
        for index, ids, label in zip(batch["index"], batch["input_ids"], batch["labels"], strict=True):
            given, *texts = ROWS[task][index]
            tokens = ids[: int((ids != module.tokenizer.pad_token_id).sum())].tolist()
            assert tokens == module.tokenizer(*texts)["input_ids"]
            assert label == (torch.tensor(float(given)) if task == "stsb" else module.task.labels.index(given))


def test_splits_and_summary(make):
    module = make("mnli", "predict")
    assert module.summary == {
        "train": 20,
        "dev_matched": 20,
        "dev_mismatched": 5,
        "test_matched": 20,
        "test_mismatched": 5,
        "ax": 5,
    }
    assert module.val_splits == ["dev_matched", "dev_mismatched"]
    assert module.test_splits == ["test_matched", "test_mismatched"]
    assert module.predict_splits == ["test_matched", "test_mismatched", "ax"]
    for loaders, splits in (
        (module.val_dataloader(), module.val_splits),
        (module.test_dataloader(), module.test_splits),
        (module.predict_dataloader(), module.predict_splits),
    ):
        assert [len(indices(loader)) for loader in loaders] == [module.summary[split] for split in splits]
    assert all("labels" not in batch for loader in module.predict_dataloader() for batch in loader)


def test_counts_are_printed(make, own_root, caplog):
    write_tsv(own_root / "QQP/dev.tsv", [TASKS["qqp"].columns, [0, 1, 2, "a", "b", 1], [1, 3, 4, "half"]])
    with caplog.at_level("INFO"):
        module = make("qqp", root=str(own_root))
    assert module.summary == {"train": 20, "dev": 1, "dev_skipped": 1, "test": 20}
    assert "GLUE QQP: 20 train, 1 dev, 1 dev skipped, 20 test" in caplog.text


def test_tokenized_once_for_the_same_content_and_settings(make, own_root, tmp_path, monkeypatch):
    settings = {"root": str(own_root), "cache_dir": str(tmp_path / "cache")}
    make("rte", **settings)
    files = sorted((tmp_path / "cache").iterdir())
    assert len(files) == 3
    with monkeypatch.context() as patch:
        patch.setattr(GlueDataModule, "_tokenize", None)
        make("rte", **settings, batch_size=4, seed=5)
    make("rte", **settings, max_length=9)
    assert len(list((tmp_path / "cache").iterdir())) == 6
    write_tsv(own_root / "RTE/dev.tsv", [TASKS["rte"].columns, [0, "a", "b", "entailment"]])
    make("rte", **settings)
    assert len(list((tmp_path / "cache").iterdir())) == 7


def test_truncation_takes_from_the_longer(make, own_root):
    write_tsv(own_root / "RTE/dev.tsv", [TASKS["rte"].columns, [0, "river " * 30, "the lake is wide", "entailment"]])
    module = make("rte", root=str(own_root), max_length=16)
    ids = next(iter(module.val_dataloader()[0]))["input_ids"][0].tolist()
    second = module.tokenizer("the lake is wide", add_special_tokens=False)["input_ids"]
    assert len(ids) == 16
    assert ids[-1 - len(second) : -1] == second


def test_part_of_the_training_data(make):
    drawn = {tuple(sorted(indices(epoch_of(make("rte", train_examples=6, seed=seed), 1)))) for seed in range(5)}
    assert len(drawn) == 5
    assert all(len(set(rows)) == 6 for rows in drawn)
    module = make("rte", train_examples=6)
    assert sorted(indices(epoch_of(module, 0))) == sorted(indices(epoch_of(module, 1)))
    assert len(indices(epoch_of(make("rte", train_examples=1000)))) == 20


def test_an_epoch_takes_every_example_once_in_an_order_of_its_own(make):
    module = make("sst2", batch_size=3)
    epochs = [indices(epoch_of(module, epoch)) for epoch in (0, 1)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert indices(epoch_of(module, 0)) == epochs[0] == indices(epoch_of(make("sst2", batch_size=3, num_workers=1), 0))
    assert indices(epoch_of(make("sst2", batch_size=3, seed=1), 0)) != epochs[0]


@pytest.mark.parametrize(("world_size", "accumulate"), [(4, 1), (1, 4), (2, 2)])
def test_steps_are_the_same_however_they_are_cut(make, world_size, accumulate):
    module = make("rte")
    whole = epoch_of(module)
    ranks = [epoch_of(as_rank(module, world_size, rank, accumulate)) for rank in range(world_size)]
    for step, expected in enumerate(whole):
        windows = [rank[step * accumulate : (step + 1) * accumulate] for rank in ranks]
        assert indices(batch for window in windows for batch in window) == indices([expected])
        for window in windows:
            assert {int(batch["window_sequences"]) for batch in window} == {len(indices(window))}


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_takes_every_example_once_on_as_many_batches(make, world_size):
    module = make("cola", batch_size=2 * world_size)
    ranks = [list(as_rank(module, world_size, rank).val_dataloader()[0]) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    assert sorted(index for rank in ranks for index in indices(rank)) == list(range(20))
    with pytest.raises(UserError, match="the 20 examples of dev cannot feed 21 ranks"):
        as_rank(make("cola", batch_size=21), 21).val_dataloader()


class Recorder(LightningModule):
    """Keeps the rows of every batch it is trained on, and checks that evaluation sees all."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch):
        self.seen.append(batch["index"].tolist())
        return (self.weight * batch["labels"].float().mean()).sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        assert "labels" in batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_resumed_run_sees_what_is_left(make, tmp_path):
    """How and where else a run may end is for `test_resume` to say: the code is the same."""

    def fit(callbacks=(), ckpt_path=None):
        module, recorder = make("mnli"), Recorder()
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=3,
            accumulate_grad_batches=2,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(recorder, datamodule=module, ckpt_path=ckpt_path, weights_only=False if ckpt_path else None)
        except InterruptedRun:
            assert callbacks
        return recorder.seen

    whole = fit()
    assert len(whole) == 18
    before = fit([SaveAt(tmp_path / "x.ckpt", "on_train_batch_end", 4)])
    assert before + fit(ckpt_path=tmp_path / "x.ckpt") == whole


# Bad settings


def test_absent_splits(make, own_root):
    for split in ("dev", "test"):
        (own_root / f"RTE/{split}.tsv").unlink()
    assert make("rte", None, root=str(own_root)).summary == {"train": 20}
    for stage, split in (("fit", "dev"), ("validate", "dev"), ("test", "test"), ("predict", "test")):
        with pytest.raises(UserError, match=rf"has no {split} of RTE, which {stage} needs, only train;"):
            make("rte", stage, root=str(own_root))
    (own_root / "MNLI/dev_mismatched.tsv").unlink()
    assert make("mnli", root=str(own_root)).val_splits == ["dev_matched"]
    (own_root / "MNLI/dev_matched.tsv").unlink()
    with pytest.raises(UserError, match="has no dev_matched of MNLI, which fit needs"):
        make("mnli", root=str(own_root))


def test_absent_folders(make, tmp_path):
    with pytest.raises(UserError, match=r"RTE: no such folder; set data\.root to the folder that holds RTE"):
        make("rte", root=str(tmp_path))
    (tmp_path / "RTE").mkdir()
    with pytest.raises(UserError, match=r"RTE: none of train\.tsv, dev\.tsv, test\.tsv is there"):
        make("rte", root=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", "snli"),
        ("max_length", 4),
        ("batch_size", 0),
        ("train_examples", 0),
        ("num_workers", -1),
        ("seed", -1),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(UserError, match=rf"^data\.{name} is {value}; it must be"):
        GlueDataModule(**{name: value})


def test_no_tokenizer(make):
    with pytest.raises(UserError, match=r"data\.tokenizer is not set"):
        make("rte", tokenizer=None)


def test_cache_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write tokenized examples .*data\.cache_dir"):
        make("rte", cache_dir=str(tmp_path / "file/cache"))


def test_batch_that_cannot_be_cut(make):
    with pytest.raises(UserError, match=r"data\.batch_size 8 .* 3 ranks x 1"):
        as_rank(make("rte"), 3).train_dataloader()


@pytest.mark.full
@pytest.mark.parametrize(("task", "share"), [("sst2", 0.06), ("mrpc", 0.03)])
def test_padding_of_the_development_data(make, task, share):
    settings = {"root": str(SHARED / "glue"), "tokenizer": str(SHARED / "albert-spm/30k-clean.model"), "batch_size": 32}
    masks = [batch["attention_mask"] for batch in epoch_of(make(task, **settings))]
    assert 1 - sum(mask.sum() for mask in masks) / sum(mask.numel() for mask in masks) < share
