"""Fine-tuning through the command line: it learns, and pieces, ranks and interrupts change nothing."""

import shutil

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from depthlab.cli import main
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.models.checkpoint import load_as_saved
from depthlab.models.classifier import load_classifier
from tests.data.benchmarks.glue_fixtures import ROWS, write_tsv
from tests.support import (
    REPOSITORY,
    compare_runs,
    error_of,
    fine_tuning,
    interrupted,
    pretraining,
    printed_by,
    results,
    run,
    scalars,
    table,
    tags,
    write_checkpoint,
    write_corpus,
    write_inputs,
)

COMPARED = (
    *("train/loss/total", "train/loss/task", "train/loss/ponder", "train/depth/all", "train/depth/cls"),
    *("val/loss/total", "val/loss/task", "val/loss/ponder", "val/accuracy", "val/score", "val/depth/all"),
    "val/depth/label/entailment",
)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def reference(inputs):
    """Two epochs of three steps of RTE, and what they printed."""
    run_dir = inputs / "reference"
    return run_dir, printed_by(fine_tuning(inputs, run_dir))


def assert_same(run_dir, reference):
    """Curves, epochs and weights; what is random is drawn before the first step."""
    compare_runs(run_dir, reference, COMPARED, tolerance=1e-4, weights=1e-4)
    ours, theirs = results(run_dir), results(reference)
    assert ours["best_epoch"] == theirs["best_epoch"]
    for one, other in zip(ours["epochs"], theirs["epochs"], strict=True):
        assert one.pop("val/seconds_per_example") > 0 and other.pop("val/seconds_per_example") > 0
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


QUICK = ("stsb", "mnli")
"""A regression and three classes."""


@pytest.mark.parametrize("task", [pytest.param(t, marks=[pytest.mark.full] * (t not in QUICK)) for t in GLUE_TASKS])
def test_every_task_is_over_fitted_and_predicts(inputs, tmp_path, task):
    settings = {"data__batch_size": 20, "trainer__max_epochs": 30, "trainer__check_val_every_n_epoch": 30}
    lr = {"model__optimizer__init_args__lr": 4e-3, "trainer__log_every_n_steps": 30}
    main(fine_tuning(inputs, tmp_path / "run", task=task, **settings, **lr))
    found = results(tmp_path / "run")
    for name in (*GLUE_TASKS[task].metrics, "score", "glue_score"):
        assert found[f"val/{name}"] > 0.99 if task == "stsb" else found[f"val/{name}"] == 1, name
    assert found["task"] == task and len(found["epochs"]) == 1 and found["best_epoch"] == 30
    assert ("val/accuracy_mismatched" in found) == (task == "mnli")
    classes = {name.rpartition("/")[2] for name in found if name.startswith("val/depth/label/")}
    assert classes == set(GLUE_TASKS[task].labels)
    if task in ("mnli", "stsb", "mrpc"):
        main(fine_tuning(inputs, tmp_path / "run", "predict", task=task, data__batch_size=3))
        check_predictions(tmp_path / "run", task)


def test_what_a_run_leaves(inputs, reference):
    run_dir, output = reference
    found = results(run_dir)
    assert found["seed"] == 0 and found["data"]["train"] == 20
    assert found["tokens"] < found["token_iterations"] < 4 * found["tokens"]
    assert found["model"]["checkpoint"] == str(inputs / "checkpoint")
    assert found["model"]["num_hidden_layers"] == 4 and found["model"]["halting"] == "act"
    assert (found["learning_rate"], found["batch_size"]) == (3e-3, 8)
    assert [(epoch["epoch"], epoch["step"]) for epoch in found["epochs"]] == [(1, 3), (2, 6)]
    best = max(found["epochs"], key=lambda epoch: epoch["val/score"])
    assert found["best_epoch"] == best["epoch"] and found["steps"] == best["step"]
    assert all(found[tag] == value for tag, value in best.items() if tag.startswith("val/"))
    logged = set(tags(run_dir))
    assert set(COMPARED) | {"val/glue_score", "val/depth/sep", "val/depth/plain", "lr-AdamW/pg1"} <= logged
    assert not {tag for tag in logged if "mask_" in tag}
    for row in ("accuracy (%)", "mean depth, [CLS]", "mean depth where the label is not_entailment"):
        assert row in output
    for place in ("results.json", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "model"):
        assert str(run_dir / place) in output
    model = AutoModelForSequenceClassification.from_pretrained(run_dir / "model")
    weights = torch.load(run_dir / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(model.classifier.weight, weights["model.classifier.weight"])
    assert model.config.id2label == {0: "entailment", 1: "not_entailment"}
    assert "Task: rte." in (run_dir / "model/README.md").read_text()


def test_validate_takes_the_best(inputs, reference, capsys):
    run_dir, output = reference
    main(fine_tuning(inputs, run_dir, "validate"))
    assert table(capsys.readouterr().out) == table(output)
    last = fine_tuning(inputs, run_dir, "validate", ckpt_path="last")
    main(last)
    score = f"{100 * results(run_dir)['epochs'][-1]['val/score']:.2f}"
    assert f"| score (%) | {score} |" in capsys.readouterr().out


def test_accumulation_changes_nothing(inputs, reference, tmp_path):
    """Steps of 7, 7 and 6 examples in ragged halves: losses are normalised by the whole step."""
    main(fine_tuning(inputs, tmp_path / "run", trainer__accumulate_grad_batches=2))
    assert_same(tmp_path / "run", reference[0])


@pytest.mark.full
@pytest.mark.parametrize("control", ["shuffled", "frequency"])
def test_depths_of_other_words(inputs, reference, tmp_path, control):
    """A control of the reference run: another model comes out, with the depths of that run as its own are few."""
    run_dir = tmp_path / "run"
    watched = "--trainer.callbacks+=depthlab.callbacks.FixedPointMonitor"
    run([*fine_tuning(inputs, run_dir, model__depth_control=control), watched])
    ours, theirs = results(run_dir), results(reference[0])
    assert ours["control"] == control and "control" not in theirs
    assert ours["val/loss/task"] != theirs["val/loss/task"]
    first = min(scalars(run_dir, "train/depth/all"))  # before anything was learnt the mean depth is the same
    assert scalars(run_dir, "train/depth/all")[first] == scalars(reference[0], "train/depth/all")[first]
    readings = pd.read_csv(run_dir / "fixed_point.csv").query("kind == 'cls' and n == 1")
    assert {*readings["fixed_point_tokens"]} == {ours["data"]["dev"]}, "the monitor sees each example once"


def test_a_control_needs_depths(inputs, tmp_path, capsys):
    given = {"model__depth_control": "shuffled", "model__depth__halting": "fixed"}
    assert "model.depth_control needs tokens" in error_of(capsys, fine_tuning(inputs, tmp_path / "run", **given))


@pytest.mark.full
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_ranks_change_nothing(inputs, reference, tmp_path, accumulate):
    ddp = {"trainer__devices": 2, "trainer__strategy": "ddp", "trainer__accumulate_grad_batches": accumulate}
    run(fine_tuning(inputs, tmp_path / "run", **ddp))
    assert_same(tmp_path / "run", reference[0])
    for changes, run_dir in ((ddp, tmp_path / "run"), ({}, reference[0])):
        run(fine_tuning(inputs, run_dir, "predict", **changes))
    one, two = ((path / "predictions/RTE.tsv").read_text() for path in (reference[0], tmp_path / "run"))
    assert one == two and len(one.splitlines()) == 21


@pytest.mark.parametrize("batches", [2, *(pytest.param(batches, marks=pytest.mark.full) for batches in (3, 5))])
def test_interrupted_run_goes_on_as_if_nothing_had_happened(inputs, reference, tmp_path, batches):
    """In the middle of an epoch, and at its last step: the validation that follows it is not lost."""
    command = fine_tuning(inputs, tmp_path / "run")
    assert "--ckpt_path last" in interrupted(command, batches)
    main([*command, "--ckpt_path=last"])
    assert_same(tmp_path / "run", reference[0])


def test_a_run_that_has_ended_goes_on(inputs, reference, tmp_path):
    main(fine_tuning(inputs, tmp_path / "run", trainer__max_epochs=1))
    main(fine_tuning(inputs, tmp_path / "run", ckpt_path="last"))
    found = results(tmp_path / "run")
    assert [epoch["step"] for epoch in found["epochs"]] == [3, 6]
    assert sorted(scalars(tmp_path / "run", "val/score")) == [2, 5]
    assert found["tokens"] == results(reference[0])["tokens"]


def test_a_run_that_ends_in_mid_epoch_is_evaluated(inputs, tmp_path):
    main(fine_tuning(inputs, tmp_path / "run", trainer__max_steps=2))
    assert [epoch["epoch"] for epoch in results(tmp_path / "run")["epochs"]] == [0.667]


@pytest.mark.full
def test_a_runs_own_configuration_stands_alone(inputs, tmp_path):
    """It predicts again, and is reported, wherever the files are that it was built upon."""
    shutil.copy(REPOSITORY / "experiments/glue.yaml", tmp_path / "glue.yaml")
    (tmp_path / "upper.yaml").write_text("base: glue.yaml\nmodel: {warmup_steps: 1}\n")
    command = fine_tuning(inputs, tmp_path / "run", trainer__max_epochs=2)
    main([*command[:2], str(tmp_path / "upper.yaml"), *command[3:]])
    main(["predict", "--config", str(tmp_path / "run/config.yaml")])
    assert (tmp_path / "run/predictions/RTE.tsv").exists()
    found = results(tmp_path / "run")
    for kind in ("glue", "pareto"):
        main(["report", kind, str(tmp_path), "--to", str(tmp_path / kind)])
    row = pd.read_csv(tmp_path / "glue/glue.csv").iloc[0]
    assert (row.task, row.epoch, row.learning_rate, row.batch_size, row.seeds) == ("rte", 2, 3e-3, 8, 1)
    last = found["epochs"][1]
    assert row.score_median == pytest.approx(100 * last["val/score"]) and row.depth == last["val/depth/all"]
    assert row.token_iterations == found["token_iterations"]
    point = pd.read_csv(tmp_path / "pareto/pareto.csv").iloc[0]
    assert 0 < point.milliseconds_mean == pytest.approx(1000 * last["val/seconds_per_example"])


def check_predictions(run_dir, task):
    """The fixture's test split is its dev split in reverse: a model that has learnt it answers in reverse."""
    files = {file.name for file in (run_dir / "predictions").iterdir()}
    assert files == {submission.file for submission in GLUE_TASKS[task].submissions.values()}
    for split, submission in GLUE_TASKS[task].submissions.items():
        header, *lines = (run_dir / "predictions" / submission.file).read_text().splitlines()
        expected = ROWS[task][::-1] if split in ("test", "test_matched") else ROWS[task][::-1][:5]
        assert header == "index\tprediction"
        assert [line.split("\t")[0] for line in lines] == [str(index) for index in range(len(expected))]
        predicted = [line.split("\t")[1] for line in lines]
        if task == "stsb":
            assert list(map(float, predicted)) == pytest.approx([float(row[0]) for row in expected], abs=0.5)
            assert all(0 <= float(score) <= 5 for score in predicted)
        else:
            assert predicted == [row[0] for row in expected]


def test_test_measures_where_there_are_labels(inputs, tmp_path, capsys):
    """MRPC's authors give the labels of its test split."""
    shutil.copytree(inputs / "glue", tmp_path / "glue")
    rows = [[y, 1, 2, a, b] for y, a, b in ROWS["mrpc"]]
    write_tsv(tmp_path / "glue/MRPC/test.tsv", [["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], *rows])
    settings = {"task": "mrpc", "data__root": tmp_path / "glue"}
    main(fine_tuning(inputs, tmp_path / "run", **settings, trainer__max_epochs=1))
    capsys.readouterr()
    main(fine_tuning(inputs, tmp_path / "run", "test", **settings))
    printed = table(capsys.readouterr().out)
    assert printed[0] == "| mrpc, test | |"
    assert f"| F1 (%) | {100 * results(tmp_path / 'run')['val/f1']:.2f} |" in printed  # the same rows as dev's
    error = error_of(capsys, fine_tuning(inputs, tmp_path / "run", "test", task="mrpc"))
    assert "test of mrpc has no labels" in error


def test_another_model_is_just_another_model(inputs, bert, tmp_path, capsys):
    changes = {"model__checkpoint": bert, "task": "stsb", "model__classifier_dropout": 0.2, "data__max_length": 32}
    command = fine_tuning(inputs, tmp_path / "run", **changes)
    printed = printed_by(command)
    found = results(tmp_path / "run")
    assert found["model"] == {"checkpoint": str(bert), "model_type": "bert", "num_hidden_layers": 4}
    assert "val/spearman" in found and "token_iterations" not in found and found["tokens"] > 0
    logged = tags(tmp_path / "run")
    assert "train/loss/task" in logged and "throughput/tokens_per_second" in logged
    assert not [tag for tag in logged if "depth" in tag or "ponder" in tag or "iterations" in tag]
    assert not (tmp_path / "run/model").exists() and str(tmp_path / "run/model") not in printed
    main(["validate", *command[1:]])
    assert table(capsys.readouterr().out) == table(printed)
    depth = fine_tuning(inputs, tmp_path / "deep", model__depth__num_hidden_layers=3, **changes)
    assert "model.depth.num_hidden_layers is for ALBERTs" in error_of(capsys, depth)
    held = fine_tuning(inputs, tmp_path / "held", model__fixed_depth_steps=3, **changes)
    assert "model.fixed_depth_steps and model.time_penalty_warmup_steps are of ALBERTs" in error_of(capsys, held)


def test_predictions_of_another_depth_or_state_take_no_ones_place(inputs, reference, tmp_path):
    """What is handed in is the best state's, as it was trained."""
    run = shutil.copytree(reference[0], tmp_path / "run", ignore=shutil.ignore_patterns("predictions"))
    command = ["predict", "--config", str(run / "config.yaml"), "--run_dir", str(run)]
    main([*command, "--model.depth.dial=80"])
    main([*command, "--ckpt_path", "last"])
    assert {str(file.relative_to(run)) for file in run.glob("predictions/**/*.tsv")} == {
        "predictions/dial=80.0/RTE.tsv",
        "predictions/state=last/RTE.tsv",
    }
    main(command)
    assert (run / "predictions/RTE.tsv").exists()


@pytest.mark.parametrize("command", ["validate", "predict"])
@pytest.mark.parametrize("model", ["ours", "bert"])
def test_an_untrained_classifier_says_nothing(inputs, bert, tmp_path, capsys, command, model):
    checkpoint = {"ours": inputs / "checkpoint", "bert": bert}[model]
    where = {"model__checkpoint": checkpoint, "ckpt_path": "model", "data__max_length": 32}
    error = error_of(capsys, fine_tuning(inputs, tmp_path / "run", command, **where))
    assert f"{checkpoint} has no classifier.bias: name what was trained for the task" in error


@pytest.mark.parametrize("place", ["", "model"])
def test_a_classifier_of_other_labels_says_nothing(inputs, reference, tmp_path, capsys, place):
    """As many as they are; a run's or its model's."""
    where = {"model__checkpoint": reference[0] / place, "ckpt_path": "model", "task": "mrpc"}
    error = error_of(capsys, fine_tuning(inputs, tmp_path / "run", "validate", **where))
    assert "knows the labels entailment, not_entailment, and the data has 0, 1: name what was trained" in error


def test_a_classifier_of_other_classes_begins_anew(inputs, reference, bert, tmp_path):
    """As from MNLI to STS-B: of a run, of what it has exported, and of Hugging Face's; all else is kept."""
    theirs = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=3)
    theirs.save_pretrained(tmp_path / "bert")
    ours = load_as_saved(str(reference[0]))
    for place, before in ((reference[0], ours), (reference[0] / "model", ours), (tmp_path / "bert", theirs)):
        model = load_classifier(str(place), [], {}, None)
        assert set(model.new_weights) == {"classifier.weight", "classifier.bias"} and model.classifier.out_features == 1
        kept, expected = (one.base_model.state_dict() for one in (model, before))
        torch.testing.assert_close(kept, expected, rtol=0, atol=0)
    main(fine_tuning(inputs, tmp_path / "run", task="stsb", model__checkpoint=reference[0], trainer__max_steps=1))
    assert "val/spearman" in results(tmp_path / "run")


def test_a_model_of_one_task_starts_another(inputs, reference, tmp_path):
    """The classifier of a run stays where the classes are as many."""
    settings = {"model__checkpoint": reference[0], "trainer__max_steps": 1, "model__depth__time_penalty": 0.5}
    main(fine_tuning(inputs, tmp_path / "run", task="qnli", **settings))
    found = results(tmp_path / "run")
    assert found["model"]["time_penalty"] == 0.5
    total = found["val/loss/task"] + 0.5 * found["val/loss/ponder"]
    assert found["val/loss/total"] == pytest.approx(total, rel=1e-5)


BAD_SETTINGS = {
    "data.task": ("snli", "snli"),
    "data.root": ("no/such/folder", "no such folder"),
    "data.max_length": (65, "data.max_length 65 is over the 64 position embeddings"),
    "model.checkpoint": ("no/such/place", "no/such/place"),
    "model.checkpoint ": ("{inputs}/glue", "glue"),
    "model.checkpoint  ": ("{inputs}/other", "must be the model's own"),
    "model.depth.act_epsilon": (2, "act_epsilon"),
    "model.classifier_dropout": (1.0, "classifier_dropout"),
    "model.warmup_steps": (-1, "warmup_steps"),
    "model.labels": ("[a]", "labels"),
    "trainer.max_epochs": (-1, "trainer.max_epochs"),
    "trainer.limit_train_batches": (1, "accumulate_grad_batches"),
    "data.batch_size": (7, "cannot be cut"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_bad_setting_gets_one_line(inputs, tmp_path, capsys, name):
    value, expected = BAD_SETTINGS[name]
    if "other" in str(value):
        write_checkpoint(inputs / "other", vocab_size=30000)
    pieces = {"trainer__accumulate_grad_batches": 2}
    command = [*fine_tuning(inputs, tmp_path / "run", **pieces), f"--{name.strip()}={str(value).format(inputs=inputs)}"]
    assert expected in error_of(capsys, command)
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_a_checkpoint_of_another_task(inputs, reference, tmp_path, capsys):
    best = reference[0] / "checkpoints/best.ckpt"
    command = fine_tuning(inputs, tmp_path / "run", "validate", "qnli", ckpt_path=best)
    assert "holds a model of rte, not of qnli" in error_of(capsys, command)
    write_corpus(tmp_path / "corpus.txt")
    command = pretraining(tmp_path / "other", tmp_path / "corpus.txt", ckpt_path=best)
    assert "holds a model of rte, not of another experiment" in error_of(capsys, command)


def test_depth_is_held_first(inputs, tmp_path):
    """The halting unit rests, and what is validated at the cap is not what the run ends with."""
    held = {"model__fixed_depth_steps": 3, "model__depth__target": 2.0, "trainer__log_every_n_steps": 1}
    main(fine_tuning(inputs, tmp_path / "run", trainer__max_epochs=3, **held))
    depths = [*scalars(tmp_path / "run", "train/depth/all").values()]
    assert depths[:3] == [4, 4, 4] and all(depth < 4 for depth in depths[3:])
    prices = [*scalars(tmp_path / "run", "train/time_penalty").values()]
    assert not any(prices[:2]) and all(prices[2:])  # logged is that of the step to come
    assert [epoch["step"] for epoch in results(tmp_path / "run")["epochs"]] == [6, 9]


def test_depth_that_is_never_free_has_no_best(inputs, tmp_path, caplog):
    main(fine_tuning(inputs, tmp_path / "run", model__fixed_depth_steps=4, model__time_penalty_warmup_steps=4))
    assert "take 8 of 6 steps: depth is never free" in caplog.text
    found = results(tmp_path / "run")
    assert found["steps"] == 6 and "val/score" in found and found["epochs"] == []
    assert not (tmp_path / "run/checkpoints/best.ckpt").exists()


def test_split_that_is_absent(inputs, tmp_path, capsys):
    shutil.copytree(inputs / "glue", tmp_path / "glue")
    (tmp_path / "glue/RTE/dev.tsv").unlink()
    assert "has no dev of RTE" in error_of(capsys, fine_tuning(inputs, tmp_path / "run", data__root=tmp_path / "glue"))


def test_pretraining_has_nothing_to_predict(capsys):
    message = error_of(capsys, ["predict", "--config", "experiments/pretrain.yaml"])
    assert "nothing to predict in pretraining" in message


@pytest.mark.parametrize("command", ["fit", "predict"])
def test_help(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--config", "experiments/glue.yaml", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    said = ("--model.checkpoint", "what to start from", "--data.task", "--data.root", "take its best checkpoint")
    assert all(phrase in text for phrase in said)
    assert not any(phrase in text for phrase in ("--model.labels", "--model.metrics", "--model.task"))
