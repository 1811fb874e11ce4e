"""`depthlab dial`: each setting as if measured alone, from data that is read once; and what reports make of it."""

import json
import shutil

import pandas as pd
import pytest

from depthlab.cli import main
from depthlab.data.benchmarks.labelled import LabelledDataModule
from tests.support import arguments, error_of, fine_tuning, printed_by, results, table, write_inputs

VALUES = "-80,-1,0,80"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A checkpoint, data, and two runs of it that differ in their seed."""
    folder = write_inputs(tmp_path_factory.mktemp("dial"))
    for seed in (0, 1):
        main(fine_tuning(folder, folder / f"runs/{seed}", trainer__max_epochs=2, seed_everything=seed))
    return folder


def dialled(inputs, seed, dial, **settings):
    """What `depthlab dial` says of a run's model, row by row."""
    where = {"model__checkpoint": inputs / f"runs/{seed}", "dial": dial}
    command = fine_tuning(inputs, inputs / "elsewhere", "dial", **where | settings)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(printed_by(command))[2:]]


@pytest.fixture(scope="module")
def measured(inputs):
    return [dialled(inputs, seed, VALUES) for seed in (0, 1)]


def test_every_setting_as_if_alone(inputs, measured):
    """Against `depthlab validate` with that setting."""
    shown = {row[0]: row for row in measured[0]}
    for value in ("-1", "80"):
        alone = {"model__checkpoint": inputs / "runs/0", "ckpt_path": "model", "model__depth__dial": value}
        lines = table(printed_by(fine_tuning(inputs, inputs / "elsewhere", "validate", **alone)))
        cells = dict([cell.strip() for cell in line.split("|")[1:3]] for line in lines)
        assert shown[value][1:3] == [cells["score (%)"], cells["mean depth, all tokens"]]
    depths = [float(row[2]) for row in measured[0]]
    assert depths[0] == 4 and depths[-1] == 1 and depths == sorted(depths, reverse=True)


def test_more_points_stand_beside_those_of_before(inputs):
    """Sorted; one that is measured again is there once."""
    where = {"model__checkpoint": inputs / "runs/1", "model__depth__halting": "change"}
    for dial in ("0.5,0.1", "0.3,0.5"):
        main(fine_tuning(inputs, inputs / "runs/1", "dial", **where, dial=dial))
    points = json.loads((inputs / "runs/1/dial/change.json").read_text())
    assert [point["model"]["dial"] for point in points] == [0.1, 0.3, 0.5]


def test_a_value_twice_is_one_point_and_another_state_another_model(inputs, copied, tmp_path):
    """Each would pass for a seed more."""
    command = ["dial", "--config", str(copied / "config.yaml"), "--model.checkpoint"]
    main([*command, str(copied), "--dial=0.5,0,0.5,-0"])
    main([*command, str(copied / "checkpoints/last.ckpt"), "--dial=0"])
    best, last = (json.loads((copied / f"dial/{name}.json").read_text()) for name in ("act", "act,state=last"))
    assert [point["model"]["dial"] for point in best] == [0, 0.5] and last[0]["model"]["state"] == "last"
    main(["report", "pareto", str(copied), "--to", str(tmp_path / "report")])
    points = pd.read_csv(tmp_path / "report/pareto.csv")
    assert len(points) == 4 and (points.runs == 1).all()


def test_turned_to_nothing_it_is_the_run(inputs, measured):
    found = results(inputs / "runs/0")
    zero = next(row for row in measured[0] if row[0] == "0")
    assert float(zero[1]) == pytest.approx(100 * found["val/score"], abs=0.01)
    assert float(zero[2]) == pytest.approx(found["val/depth/all"], abs=0.01)
    assert float(zero[3]) == pytest.approx(found["val/token_iterations_per_example"], abs=0.1)


def test_the_data_is_read_once(inputs, monkeypatch):
    calls = []
    for name in ("prepare_data", "val_dataloader"):
        method = getattr(LabelledDataModule, name)
        counted = lambda self, method=method, name=name: (calls.append(name), method(self))[1]  # noqa: E731
        monkeypatch.setattr(LabelledDataModule, name, counted)
    dialled(inputs, 0, "0.1,0.2,0.3", model__depth__halting="change")
    assert sorted(calls) == ["prepare_data", "val_dataloader"]


def test_beyond_the_cap_and_by_another_rule(inputs):
    trained = {"model__depth__target": 2.5}  # which is of training
    rows = dialled(inputs, 1, "0,1e9", model__depth__halting="change", max_depth=7, **trained)
    assert [row[2] for row in rows] == ["7.00", "1.00"]
    assert (inputs / "runs/1/dial/change,max_depth=7.json").exists()
    for halting in ("fixed", "every"):  # the same, where nothing is trained
        assert [row[2] for row in dialled(inputs, 1, "2,6", model__depth__halting=halting)] == ["2.00", "6.00"]
    assert not (inputs / "runs/1/dial/every.json").exists() and (inputs / "runs/1/dial/fixed.json").exists()


def test_a_runs_own_settings_will_do(inputs, measured):
    """Those of its `config.yaml`; a new unit, or a bias, which it may have begun with, is not what is measured."""
    run = inputs / "runs/0"
    command = ["dial", "--config", str(run / "config.yaml"), "--model.checkpoint", str(run), f"--dial={VALUES}"]
    begun = ["--model.depth.new_unit", "true", "--model.depth.halting_bias_init", "-3"]
    rows = table(printed_by([*command, *begun]))[2:]
    assert [[cell.strip() for cell in row.split("|")[1:6]] for row in rows] == [row[:5] for row in measured[0]]


@pytest.fixture
def copied(inputs, tmp_path):
    """A run that has ended, where nothing has been measured yet."""
    return shutil.copytree(inputs / "runs/0", tmp_path / "copied", ignore=shutil.ignore_patterns("dial"))


def test_points_of_another_checkpoint_are_not_the_runs(inputs, copied, tmp_path):
    shutil.move(copied / "model", tmp_path / "other")
    main(fine_tuning(inputs, copied, "dial", model__checkpoint=tmp_path / "other", dial="0"))
    (file,) = (copied / "dial").iterdir()
    assert file.name.startswith("act,checkpoint=") and file.name.endswith("%2Fother,task=rte.json")
    (point,) = json.loads(file.read_text())
    assert point["model"]["checkpoint"] == str(tmp_path / "other") and point["training"] == {}


def test_points_of_a_model_that_differs_say_in_what(inputs, copied):
    """What a run has exported is the run's; with other settings its points have another name."""
    settings = {"act_epsilon": 0.9, "act_cap": "truncate", "act_update": "blend", "execution": "dense"}
    given = {f"model__depth__{name}": value for name, value in settings.items()}
    given |= {"model__depth__num_hidden_layers": 2, "model__depth_control": "shuffled", "data__max_length": 40}
    dialled(inputs, 0, "0", model__checkpoint=copied / "model", **given)
    wanted = settings | {"max_depth": 2, "control": "shuffled", "max_length": 40}
    (file,) = (copied / "dial").iterdir()
    assert file.name == ",".join(["act", *(f"{name}={value}" for name, value in sorted(wanted.items()))]) + ".json"
    (point,) = json.loads(file.read_text())
    trained = {"num_hidden_layers": 4, "halting": "act", "checkpoint": str(inputs / "checkpoint")}
    assert point["model"].items() >= (wanted | trained | {"rule": "act", "dial": 0}).items()
    assert point["directory"] == str(copied) and point["seed"] == 0 and point["learning_rate"] == 3e-3


@pytest.mark.full
def test_a_checkpoint_without_a_run(inputs, tmp_path):
    """It goes by its name, its points lie in the `run_dir`, and a report draws them; so does similarity, untrained."""
    exported = shutil.copytree(inputs / "runs/0/model", tmp_path / "exported")
    where = {"model__checkpoint": exported, "model__depth__halting": "change", "dial": "0,1e9"}
    main(fine_tuning(inputs, tmp_path / "run", "dial", **where))
    settings = {"data.root": inputs / "glue", "data.cache_dir": inputs / "cache", "data.max_length": 48}
    settings |= {"model.checkpoint": inputs / "checkpoint", "run_dir": tmp_path / "run/similar"}
    main(arguments("dial", "similarity", settings, model__depth__halting="fixed", dial="1,4"))
    main(["report", "pareto", str(tmp_path / "run"), "--to", str(tmp_path / "report")])
    points = pd.read_csv(tmp_path / "report/pareto.csv")
    assert list(points.depth_mean) == [1, 4, 4, 1] and list(points.task) == ["stsb", "stsb", "rte", "rte"]


def test_of_a_part_of_the_split_nothing_is_kept(inputs):
    where = {"model__checkpoint": inputs / "runs/1", "model__depth__halting": "margin", "dial": "0.5"}
    printed = printed_by(fine_tuning(inputs, inputs / "elsewhere", "dial", **where, trainer__limit_val_batches=1))
    assert "batches alone (trainer.limit_val_batches).\nThey are not kept" in printed
    assert not (inputs / "runs/1/dial/margin.json").exists()


def test_the_report_draws_the_curves(inputs, measured, tmp_path):
    """Means over seeds of what the files say; the runs themselves are a line of their own."""
    main(["report", "pareto", str(inputs / "runs"), "--to", str(tmp_path)])
    points = pd.read_csv(tmp_path / "pareto.csv")
    lines = points[points.family.str.endswith("by act")]
    assert list(lines.value) == [-80, -1, 0, 80] and set(lines.runs) == {2} and set(lines.setting) == {"dial"}
    files = [json.loads((inputs / f"runs/{seed}/dial/act.json").read_text()) for seed in (0, 1)]
    for number, row in enumerate(lines.itertuples()):
        epochs = [file[number]["epochs"][0] for file in files]
        for column, tag, factor in (
            *(("score", "val/score", 100), ("depth", "val/depth/all", 1)),
            *(("iterations", "val/token_iterations_per_example", 1), ("gflops", "val/flops_per_example", 1e-9)),
        ):
            mean = factor * sum(epoch[tag] for epoch in epochs) / 2
            assert getattr(row, f"{column}_mean") == pytest.approx(mean)
    assert len(points[~points.family.str.contains("by ")]) == 1
    main(["report", "glue", str(inputs / "runs"), "--to", str(tmp_path / "glue")])
    assert len(pd.read_csv(tmp_path / "glue/glue.csv").query("model == model and seeds == 2")) == 1, "no dial in it"


@pytest.mark.parametrize(
    ("dial", "settings", "message"),
    [
        ("0.1,much", {}, "--dial 0.1,much: numbers with commas between them"),
        ("1,0.5", {"model__depth__halting": "patience"}, "is patience, a whole number, 100,000 at most, got 0.5"),
        ("0,nan", {}, "the dial of halting 'act' is act_shift, a number, got nan"),
        ("0", {"trainer__limit_val_batches": "0"}, "trainer.limit_val_batches 0 leaves nothing to validate: leave it"),
        ("0.5", {"model__depth__halting": "route"}, "has no albert.encoder.halting.score_bias: name what was trained"),
        ("0.5", {"model__depth__halting": "ponder"}, "runs/0 was trained by act, whose halting probabilities are not"),
        ("0.5", {"data__task": "qnli"}, "runs/0 was trained for rte, and the data is of qnli"),
        ("2", {"model__checkpoint": "{}/checkpoint"}, "has no classifier.bias: name what was trained for the task"),
    ],
)
def test_one_line_for_a_mistake(inputs, capsys, dial, settings, message):
    where = {"model__checkpoint": inputs / "runs/0", "dial": dial}
    settings = {name: value.format(inputs) for name, value in settings.items()}
    assert message in error_of(capsys, fine_tuning(inputs, inputs / "elsewhere", "dial", **where | settings))


def test_a_runs_state_is_not_read_by_another_rules_unit(inputs, capsys):
    """By `validate` either; `ponder` has the weights of `act` under the same names."""
    command = fine_tuning(inputs, inputs / "runs/0", "validate", model__depth__halting="ponder")
    assert "the checkpoint of --ckpt_path was trained by act, whose" in error_of(capsys, command)
