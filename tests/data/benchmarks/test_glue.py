import pytest
import torch

from depthlab.data.benchmarks.glue import GlueDataModule
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.errors import UserError
from tests.support import SHARED, epoch_of

from .glue_fixtures import ROWS, write_tsv


@pytest.fixture
def make(make_data):
    def make(task: str, stage: str | None = "fit", **changes) -> GlueDataModule:
        return make_data("glue", stage, task=task, **{"batch_size": 8, **changes})

    return make


def indices(batches) -> list[int]:
    return [index for batch in batches for index in batch["index"].tolist()]


@pytest.mark.parametrize("task", GLUE_TASKS)
def test_batches(make, task):
    module = make(task)
    pair = len(module.task.texts) == 2
    for batch in epoch_of(module):
        assert len(batch["index"]) <= 8
        assert batch["labels"].dtype == (torch.float32 if task == "stsb" else torch.int64)
        assert ((batch["token_type_ids"] == 1).any(1) == pair).all()  # what v5 tokenizers drop unless asked
        for index, ids, label in zip(batch["index"], batch["input_ids"], batch["labels"], strict=True):
            given, *texts = ROWS[task][index]
            tokens = ids[: int((ids != module.tokenizer.pad_token_id).sum())].tolist()
            assert tokens == module.tokenizer(*texts)["input_ids"]
            assert label == (torch.tensor(float(given)) if task == "stsb" else module.task.labels.index(given))


def test_splits_and_summary(make):
    module = make("mnli", "predict")
    counts = {"dev_matched": 20, "dev_mismatched": 5, "test_matched": 20, "test_mismatched": 5, "ax": 5}
    assert module.summary == {"train": 20} | counts
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
    write_tsv(own_root / "QQP/dev.tsv", [GLUE_TASKS["qqp"].columns, [0, 1, 2, "a", "b", 1], [1, 3, 4, "half"]])
    with caplog.at_level("INFO"):
        module = make("qqp", root=str(own_root))
    assert module.summary == {"train": 20, "dev": 1, "dev_skipped": 1, "test": 20}
    assert "GLUE QQP: 20 train, 1 dev, 1 dev skipped, 20 test" in caplog.text


def test_tokenized_once_for_the_same_content_and_settings(make, own_root, tmp_path, monkeypatch):
    settings = {"root": str(own_root), "cache_dir": str(tmp_path / "cache")}
    make("rte", **settings)

    def files():
        return list((tmp_path / "cache").glob("*.arrow"))

    assert len(files()) == 3
    with monkeypatch.context() as patch:
        patch.setattr(GlueDataModule, "_tokenize", None)
        make("rte", **settings, batch_size=4, seed=5)
    make("rte", **settings, max_length=9)
    assert len(files()) == 6
    write_tsv(own_root / "RTE/dev.tsv", [GLUE_TASKS["rte"].columns, [0, "a", "b", "entailment"]])
    make("rte", **settings)
    assert len(files()) == 7


def test_truncation_takes_from_the_longer(make, own_root):
    row = [0, "river " * 30, "the lake is wide", "entailment"]
    write_tsv(own_root / "RTE/dev.tsv", [GLUE_TASKS["rte"].columns, row])
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


def test_no_tokenizer(make):
    with pytest.raises(UserError, match=r"data\.tokenizer is not set"):
        make("rte", tokenizer=None)


def test_cache_that_cannot_be_written(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write tokenized examples .*data\.cache_dir"):
        make("rte", cache_dir=str(tmp_path / "file/cache"))


@pytest.mark.full
@pytest.mark.parametrize(("task", "share"), [("sst2", 0.06), ("mrpc", 0.03)])
def test_padding_of_the_development_data(make, task, share):
    settings = {"root": str(SHARED / "glue"), "tokenizer": str(SHARED / "albert-spm/30k-clean.model"), "batch_size": 32}
    masks = [batch["attention_mask"] for batch in epoch_of(make(task, **settings))]
    assert 1 - sum(mask.sum() for mask in masks) / sum(mask.numel() for mask in masks) < share
