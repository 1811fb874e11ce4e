"""Runs over a part of the data: a fair one, counted and marked as such; and other depths for trained weights."""

import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from depthlab.cli import main
from depthlab.commands.submission import check_predictions
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.data.steps import spread
from depthlab.errors import UserError
from tests.data.benchmarks.own_fixtures import write_conllu
from tests.support import REPOSITORY, error_of, fine_tuning, pretraining, results, write_inputs


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def tuned(inputs):
    main(fine_tuning(inputs, inputs / "run", trainer__max_epochs=1))
    return inputs / "run"


class Lengths(Callback):
    """Notes the length of the longest text of each batch of a validation, and what each training step sees."""

    seen: ClassVar[list[int]] = []
    trained: ClassVar[list[torch.Tensor]] = []

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.seen.append(batch["input_ids"].shape[1])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.trained.append(batch["input_ids"])


WATCHED = "--trainer.callbacks+=tests.test_limits.Lengths"


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1001])
def test_every_beginning_is_spread_evenly(count):
    order = spread(count)
    assert sorted(order) == [*range(count)]
    for share in (0.1, 0.3, 0.7):
        some = np.sort(order[: max(1, int(share * count))])
        gaps = np.diff([-1, *some, count])
        assert gaps.max() <= 3.2 * count / len(some) + 1, "no stretch is left out"


def test_a_limit_takes_a_fair_sample(inputs, tuned, capsys):
    """The batches are of two examples, sorted by length: three of ten are not the three shortest."""
    command = fine_tuning(inputs, tuned, "validate", data__batch_size=2)
    Lengths.seen.clear()
    main([*command, WATCHED])
    whole = sorted(Lengths.seen)
    Lengths.seen.clear()
    capsys.readouterr()
    main([*command, WATCHED, "--trainer.limit_val_batches=3"])
    assert len(Lengths.seen) == 3 and max(Lengths.seen) > whole[5] and min(Lengths.seen) < whole[5]
    assert "Of 3 of 10 batches alone (trainer.limit_val_batches)." in capsys.readouterr().out


@pytest.mark.parametrize(("command", "name"), [("validate", "val"), ("test", "test"), ("predict", "predict")])
def test_a_limit_leaves_something_to_do(inputs, tuned, capsys, command, name):
    given = f"--trainer.limit_{name}_batches=0"
    error = error_of(capsys, [*fine_tuning(inputs, tuned, command), given])
    assert f"trainer.limit_{name}_batches 0 leaves nothing to {command}: leave it out" in error


def test_results_say_what_ran(inputs, tmp_path):
    limits = {"trainer__limit_val_batches": 2, "trainer__limit_train_batches": 1, "trainer__max_epochs": 1}
    main(fine_tuning(inputs, tmp_path / "run", **limits))
    assert results(tmp_path / "run")["batches"] == {"train": "1 of 3", "val": "2 of 3"}


def test_overfitting_is_of_one_batch(inputs, tmp_path):
    Lengths.trained.clear()
    main([*fine_tuning(inputs, tmp_path / "run", trainer__overfit_batches=1, trainer__max_epochs=3), WATCHED])
    assert len(Lengths.trained) == 3
    assert all(torch.equal(one, Lengths.trained[0]) for one in Lengths.trained)


@pytest.mark.full
def test_overfitting_is_of_one_batch_and_its_masks(corpus, tmp_path):
    Lengths.trained.clear()
    given = {"trainer__overfit_batches": 1, "trainer__max_steps": 3, "trainer__val_check_interval": 1}
    main([*pretraining(tmp_path / "run", corpus, **given), WATCHED])
    assert len(Lengths.trained) == 3
    assert all(torch.equal(one, Lengths.trained[0]) for one in Lengths.trained)


def test_partial_predictions_are_marked_and_refused(inputs, tuned, capsys):
    file = tuned / "predictions/RTE.tsv"
    main([*fine_tuning(inputs, tuned, "predict", data__batch_size=4), "--trainer.limit_predict_batches=2"])
    assert file.read_text().startswith("# partial: 8 of 20 examples\nindex\tprediction\n")
    with pytest.raises(UserError, match=re.escape("line 1: it is not whole (partial: 8 of 20 examples)")):
        check_predictions(GLUE_TASKS["rte"], tuned)
    assert f"predictions  {file}\n" in capsys.readouterr().out
    main(fine_tuning(inputs, tuned, "predict", data__batch_size=4))
    assert f"predictions  {file}, in place of the one of before\n" in capsys.readouterr().out
    assert file.read_text().startswith("index\tprediction\n") and len(file.read_text().splitlines()) == 21


def test_a_treebanks_totals_are_of_what_ran(inputs, tmp_path, capsys):
    write_conllu(tmp_path / "trees.conllu", 0)
    command = ["predict", "--config", str(REPOSITORY / "experiments/treebank.yaml"), "--data.batch_size=4"]
    command += [
        f"--data.treebank={tmp_path}/trees.conllu",
        f"--model.checkpoint={inputs}/checkpoint",
        "--data.max_length=64",
    ]
    main(command)
    assert "20 sentences, 80 words," in capsys.readouterr().out
    main([*command, "--trainer.limit_predict_batches=2"])
    assert (
        "8 sentences, 32 words, 0 sentences not aligned, 0 sentences too long, 12 sentences not run"
        in capsys.readouterr().out
    )


def depth_of(printed):
    return float(re.search(r"mean depth,? (?:all tokens \| )?([\d.]+)", printed)[1])


DEPTHS = {"act_epsilon=0.6": 2.0, "num_hidden_layers=2": 2.0, "halting=fixed": 4.0}


@pytest.mark.parametrize(
    "setting", [*(pytest.param(s, marks=pytest.mark.full) for s in DEPTHS if s[0] != "h"), "halting=fixed"]
)
def test_trained_weights_go_to_other_depths(inputs, tuned, tmp_path, capsys, setting):
    """The same in validate, test, predict and inspect, of a run and of what it exported."""
    given = f"--model.depth.{setting}"
    inspected = [
        ["inspect", "The crows circled.", f"--checkpoint={place}", given] for place in (tuned, tuned / "model")
    ]
    treebank = ["predict", "--config", str(REPOSITORY / "experiments/treebank.yaml"), "--data.max_length=64"]
    write_conllu(tmp_path / "trees.conllu", 0)
    treebank += [f"--data.treebank={tmp_path}/trees.conllu", f"--model.checkpoint={tuned}", given]
    found = []
    for command in ([*fine_tuning(inputs, tuned, "validate"), given], *inspected, treebank):
        capsys.readouterr()
        main(command)
        found.append(depth_of(capsys.readouterr().out))
    if setting == "halting=fixed":
        assert found == [DEPTHS[setting]] * 4
    else:
        assert max(found) <= DEPTHS[setting] and found[1] == found[2]
    main([*fine_tuning(inputs, tuned, "predict"), given])
    assert "act_epsilon" in error_of(
        capsys, [*fine_tuning(inputs, tuned, "fit", ckpt_path="last"), "--model.depth.act_epsilon=0.6"]
    )


@pytest.mark.full
def test_a_fixed_depth_has_no_halting_unit_to_go_by(inputs, tmp_path, capsys):
    main(fine_tuning(inputs, tmp_path / "run", trainer__max_epochs=1, model__depth__halting="fixed"))
    message = "read it by its own rule or one that learns nothing"
    for place in (tmp_path / "run", tmp_path / "run/model"):
        command = ["inspect", "The crows.", f"--checkpoint={place}", "--model.depth.halting=act"]
        assert message in error_of(capsys, command)
    command = [*fine_tuning(inputs, tmp_path / "run", "validate"), "--model.depth.halting=act"]
    assert message in error_of(capsys, command)


@pytest.mark.full
def test_a_pretrained_model_goes_to_other_depths(corpus, tmp_path, capsys):
    given = pretraining(tmp_path / "run", corpus, trainer__max_steps=1)
    main(given)
    for name in ("act_epsilon=0.9", "num_hidden_layers=1", "halting=fixed"):
        main(["validate", *given[1:], f"--model.config.{name}"])
