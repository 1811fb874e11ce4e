"""A task of one's own through the command line: it is learnt, exported with its labels, and looked at like GLUE's."""

import json

import pandas as pd
import pytest
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer, pipeline

from depthlab.cli import main
from tests.data.benchmarks.own_fixtures import NAMES, texts, write_bio, write_conllu, write_table
from tests.support import FINE_TUNING, REPOSITORY, arguments, error_of, printed_by, results, tags, write_checkpoint

SHORT = {"trainer__max_epochs": 1, "trainer__check_val_every_n_epoch": 1}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    write_checkpoint(folder / "checkpoint")
    for split, seed in (("train", 0), ("dev", 0), ("test", 0)):
        rows = texts(24, seed)
        for suffix in (".tsv", ".csv", ".jsonl"):
            write_table(folder / f"{split}{suffix}", ["id", "text", "label"], [(i, *row) for i, row in enumerate(rows)])
        write_bio(folder / f"{split}.bio", seed)
        write_conllu(folder / f"{split}.conllu", seed)
    return folder


def own(inputs, run_dir, command="fit", suffix=".tsv", **changes):
    settings = FINE_TUNING | {
        "data.train": inputs / f"train{suffix}",
        "data.val": inputs / f"dev{suffix}",
        "data.cache_dir": inputs / "cache",
        "model.checkpoint": inputs / "checkpoint",
        "data.batch_size": 12,
        "model.optimizer.init_args.lr": 4e-3,
        "trainer.max_epochs": 20,
        "trainer.check_val_every_n_epoch": 20,
        "run_dir": run_dir,
    }
    return arguments(command, "own", settings, **changes)


@pytest.fixture(scope="module")
def run_dir(inputs):
    """A run on texts, with a test that has labels."""
    main(own(inputs, inputs / "run", data__test=inputs / "test.tsv"))
    return inputs / "run"


def test_classes_are_learnt_and_kept_by_name(inputs, run_dir, capsys):
    found = results(run_dir)
    assert found["val/score"] == found["val/accuracy"] > 0.9 and found["test/accuracy"] > 0.9
    assert found["task"] == "train" and found["data"] == {"train": 24, "dev": 24, "test": 24}
    assert {f"val/depth/label/{name}" for name in NAMES} <= found.keys()
    model = AutoModelForSequenceClassification.from_pretrained(run_dir / "model")
    assert model.config.id2label == dict(enumerate(NAMES))
    classify = pipeline("text-classification", model, tokenizer=AutoTokenizer.from_pretrained(run_dir / "model"))
    rows = texts(24, 0)
    said = [answer["label"] for answer in classify([text for text, _ in rows])]
    right = sum(one == name for one, (_, name) in zip(said, rows, strict=True))
    assert right / len(rows) == pytest.approx(found["test/accuracy"])
    main(["predict", "--config", str(run_dir / "config.yaml")])
    assert (run_dir / "predictions/test.tsv").read_text().splitlines()[1:] == [
        f"{n}\t{one}" for n, one in enumerate(said)
    ]
    capsys.readouterr()
    main(["inspect", rows[0][0], "--checkpoint", str(run_dir)])
    assert f"{said[0]} " in next(line for line in capsys.readouterr().out.splitlines() if line.startswith("class"))


@pytest.mark.full
def test_reports_and_treebanks_take_it(inputs, run_dir, tmp_path, capsys):
    for kind in ("own", "pareto"):
        main(["report", kind, str(run_dir), "--to", str(tmp_path / kind)])
    row = pd.read_csv(tmp_path / "own/own.csv").iloc[0]
    assert (row.task, row.metric, row.score_median) == ("train", "accuracy", 100 * results(run_dir)["val/score"])
    assert "F1" not in (tmp_path / "own/own.md").read_text() and "paper" not in (tmp_path / "own/own.md").read_text()
    main(["report", str(run_dir), "--to", str(tmp_path / "page")])
    assert "Your own tasks" in (tmp_path / "page/page.md").read_text()
    dump = tmp_path / "words.parquet"
    treebank = ["--config", str(REPOSITORY / "experiments/treebank.yaml"), f"--data.treebank={inputs}/dev.conllu"]
    main(["predict", *treebank, f"--model.checkpoint={run_dir}", f"--dump={dump}", "--data.max_length=64"])
    main(["report", "treebank", str(dump), "--to", str(tmp_path / "treebank")])
    assert "train" in (tmp_path / "treebank/treebank.md").read_text()


@pytest.mark.full
def test_a_sweep_goes_over_it(inputs, tmp_path, capsys):
    main([*own(inputs, tmp_path / "sweep", "sweep", **SHORT), "--sweep={seed_everything: [0, 1]}"])
    printed = capsys.readouterr().out
    assert "2 cells, 2 finished" in printed and f"depthlab report own {tmp_path / 'sweep'}" in printed


@pytest.mark.full
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_other_tables_are_the_same_examples(inputs, run_dir, tmp_path, suffix):
    main(own(inputs, tmp_path / "run", suffix=suffix, **SHORT))
    main(own(inputs, tmp_path / "tsv", **SHORT))
    one, other = results(tmp_path / "run"), results(tmp_path / "tsv")
    assert one["val/loss/task"] == other["val/loss/task"]


def test_pairs_and_numbers(inputs, tmp_path):
    """The number is how alike two texts are, 1 where they are the same."""
    rows = [
        (a, b, 5.0 if same else 1.0)
        for a, _ in texts(12, 3)
        for same in (True, False)
        for b in [a if same else "never"]
    ]
    for name in ("train", "dev"):
        write_table(tmp_path / f"{name}.jsonl", ["one", "other", "likeness"], rows)
    columns = {"data__text": "[one, other]", "data__label": "likeness", "data__kind": "numbers"}
    main(own(tmp_path, tmp_path / "run", suffix=".jsonl", **columns, model__checkpoint=inputs / "checkpoint"))
    found = results(tmp_path / "run")
    assert found["val/score"] == found["val/pearson"] > 0.9 and "val/spearman" in found
    assert json.loads((tmp_path / "run/model/config.json").read_text())["problem_type"] == "regression"


@pytest.mark.parametrize(
    ("suffix", "score"), [pytest.param(".conllu", "accuracy", marks=pytest.mark.full), (".bio", "span_f1")]
)
def test_words_are_tagged(inputs, tmp_path, suffix, score, capsys):
    run_dir, test = tmp_path / "run", {"data__test": inputs / f"test{suffix}"}
    printed = printed_by(own(inputs, run_dir, suffix=suffix, **test))
    found = results(run_dir)
    assert found["val/score"] == found[f"val/{score}"] > 0.9 and found["test/score"] > 0.9
    assert {"accuracy": "accuracy (%)", "span_f1": "F1 of spans (%)"}[score] in printed
    model = AutoModelForTokenClassification.from_pretrained(run_dir / "model")
    names = {"B-LOC", "I-LOC", "O"} if suffix == ".bio" else {"DET", "NOUN", "VERB"}
    assert {*model.config.id2label.values()} == names
    tag = pipeline("token-classification", model, tokenizer=AutoTokenizer.from_pretrained(run_dir / "model"))
    assert {one["entity"] for one in tag("tarn heard")} <= names
    main(["predict", "--config", str(run_dir / "config.yaml")])
    predicted = (run_dir / "predictions/test.tsv").read_text()
    gold = (inputs / f"test{suffix}").read_text()
    if suffix == ".bio":
        assert predicted.rstrip() == gold.rstrip(), "all is right"
    assert predicted.count("\n\n") == 20
    capsys.readouterr()
    main(["inspect", "tarn heard", "--checkpoint", str(run_dir)])
    shown = capsys.readouterr().out
    assert any(name in shown for name in names)


@pytest.mark.full
def test_a_model_of_others_learns_it_too(inputs, bert, tmp_path):
    for suffix in (".tsv", ".bio"):
        run_dir = tmp_path / f"run{suffix}"
        main(own(inputs, run_dir, suffix=suffix, model__checkpoint=bert, data__max_length=32, **SHORT))
        assert results(run_dir)["model"]["model_type"] == "bert" and not [
            tag for tag in tags(run_dir) if "depth" in tag
        ]


@pytest.mark.full
def test_accumulation_changes_nothing(inputs, tmp_path):
    """Of tags as many as there are in a step count, however it is cut."""
    short = {"trainer__max_epochs": 2, "trainer__check_val_every_n_epoch": 2}
    for pieces in (1, 2):
        main(own(inputs, tmp_path / str(pieces), suffix=".bio", trainer__accumulate_grad_batches=pieces, **short))
    one, two = (results(tmp_path / str(pieces)) for pieces in (1, 2))
    assert one["val/loss/total"] == pytest.approx(two["val/loss/total"], rel=1e-4)


def test_no_label_of_dev_is_new(inputs, tmp_path, capsys):
    write_table(tmp_path / "dev.tsv", ["text", "label"], [("a crow", "birds")])
    message = error_of(capsys, own(inputs, tmp_path / "run", data__val=tmp_path / "dev.tsv"))
    assert f"{tmp_path}/dev.tsv, line 2: the label is 'birds'; it must be one of sports, weather" in message
