"""What goes to the GLUE server: the right runs, and nothing that the server would refuse."""

import os
import zipfile

import pytest

from depthlab.analysis.records import read_records
from depthlab.analysis.survey import survey
from depthlab.cli import main
from depthlab.commands import submission as module
from depthlab.commands.submission import check_predictions, choose_runs, submission
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.errors import UserError
from tests.data.benchmarks.glue_fixtures import SERVERS_ROWS as ROWS
from tests.reports.synthetic import write_run
from tests.support import error_of


def write_predictions(directory):
    """What `depthlab predict` would write, all of the first label, or 2.5."""
    task = GLUE_TASKS[directory.name.partition("-")[0]]
    (directory / "predictions").mkdir(exist_ok=True)
    for wanted in task.submissions.values():
        answer = "2.500" if task.is_regression else task.labels[-1]
        lines = ["index\tprediction", *(f"{index}\t{answer}" for index in range(ROWS[wanted.file]))]
        (directory / "predictions" / wanted.file).write_text("\n".join(lines) + "\n")


@pytest.fixture
def runs(tmp_path):
    """Two seeds of every task: the second is better."""
    for task in GLUE_TASKS:
        for seed in range(2):
            write_run(tmp_path / f"runs/{task}-{seed}", [0.1, 0.5 + seed / 10, 0.4], task, seed=seed)
    return tmp_path / "runs"


@pytest.fixture
def predicted(monkeypatch):
    """The runs that were asked to predict."""
    asked = []

    def predict(directory):
        asked.append(directory.name)
        write_predictions(directory)

    monkeypatch.setattr(module, "predict", predict)
    return asked


def test_the_eleven_files_of_the_best_seeds(tmp_path, runs, predicted, capsys):
    main(["submission", str(runs), "--to", str(tmp_path / "out/submission.zip")])
    assert predicted == [f"{task}-1" for task in GLUE_TASKS]
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as archive:
        assert {name: archive.read(name).count(b"\n") - 1 for name in archive.namelist()} == ROWS
    assert os.listdir(tmp_path / "out") == ["submission.zip"]
    printed = capsys.readouterr().out
    assert "ready: " in printed and f"RTE     60.0 on dev  {runs}/rte-1\n" in printed


def test_predictions_of_this_state_are_not_made_again(tmp_path, runs, predicted):
    for task in GLUE_TASKS:
        write_predictions(runs / f"{task}-1")
    (runs / "rte-1/checkpoints").mkdir()
    (runs / "rte-1/checkpoints/best.ckpt").touch()
    old = os.stat(runs / "rte-1/checkpoints/best.ckpt").st_mtime - 100
    os.utime(runs / "rte-1/predictions/RTE.tsv", (old, old))
    (runs / "mnli-1/predictions/AX.tsv").unlink()
    submission([str(runs)], str(tmp_path / "submission.zip"))
    assert predicted == ["mnli-1", "rte-1"]


def test_a_best_state_of_other_epochs_is_pointed_out(tmp_path, runs, predicted, capsys):
    write_run(runs / "rte-2", [0.1, 0.7, 0.95], "rte", seed=2)  # the mean is highest after two epochs
    submission([str(runs)], str(tmp_path / "submission.zip"))
    assert f"{runs}/rte-2, by its best state: 95.0 after 3 epochs, not 2" in capsys.readouterr().out


def test_one_of_several_models(tmp_path, runs):
    write_run(runs / "fixed", [0.1, 0.9], "rte", model={"halting": "fixed"})
    records, _ = read_records(survey([str(runs)]), "glue")
    with pytest.raises(UserError, match=r"2 models: choose one with --model, 'nano, adaptive', 'nano, fixed depth'"):
        choose_runs(records)
    with pytest.raises(UserError, match="no such model, only 'nano, adaptive', "):
        choose_runs(records, "nano")
    with pytest.raises(UserError, match=r"no finished run of cola, .*wnli, .*--data\.task cola"):
        choose_runs(records, "nano, fixed depth")
    assert choose_runs(records, "nano, adaptive")["rte"][0].directory.name == "rte-1"


def edited(line, text):
    """Changes a line, counted from 1; None takes it away."""

    def edit(lines):
        lines[line - 1 : line] = [] if text is None else [text]

    return edit


FAULTS = {
    "no header": ("rte", edited(1, None), "line 1: the header must be"),
    "other header": ("rte", edited(1, "id\tlabel"), "line 1: the header must be"),
    "a gap": ("rte", edited(501, None), "line 501: the index is '500', not 499"),
    "not in order": ("rte", edited(5, "7\tentailment"), "line 5: the index is '7', not 3"),
    "twice": ("rte", edited(5, "2\tentailment"), "line 5: the index is '2', not 3"),
    "other label": ("rte", edited(9, "7\t1"), "line 9: the prediction is '1', not one of entailment, not_entailment"),
    "label by number": ("wnli", edited(9, "7\tentailment"), "not one of 0, 1"),
    "three columns": ("rte", edited(9, "7\tentailment\t0.9"), "line 9: the prediction is"),
    "score too high": ("stsb", edited(3, "1\t5.001"), "line 3: the prediction is '5.001', not a number from 0 to 5"),
    "score below 0": ("stsb", edited(3, "1\t-0.1"), "line 3"),
    "no score": ("stsb", edited(3, "1\tnan"), "line 3: the prediction is 'nan'"),
    "too short": ("rte", edited(3001, None), "it ends after 2999 predictions, where GLUE has 3000"),
    "too long": ("wnli", edited(147, "145\t0\n146\t0"), "it ends after 147 predictions, where GLUE has 146"),
    "empty line": ("wnli", edited(147, "145\t0\n"), "line 148: the index is ''"),
    "cut": ("wnli", lambda lines: lines.append("14"), "it breaks off"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_prediction(tmp_path, name):
    task, edit, expected = FAULTS[name]
    directory = tmp_path / task
    directory.mkdir()
    write_predictions(directory)
    check_predictions(GLUE_TASKS[task], directory)
    file = directory / "predictions" / GLUE_TASKS[task].submissions["test"].file
    lines = file.read_text().split("\n")[:-1]
    edit(lines)
    file.write_text("\n".join(lines) + ("" if name == "cut" else "\n"))
    with pytest.raises(UserError) as error:
        check_predictions(GLUE_TASKS[task], directory)
    assert str(error.value).startswith(f"{file}, ") and expected in str(error.value)


def test_a_fault_leaves_nothing_half_written(tmp_path, runs, predicted, capsys):
    for task in GLUE_TASKS:
        write_predictions(runs / f"{task}-1")
    file = runs / "wnli-1/predictions/WNLI.tsv"
    file.write_text(file.read_text().replace("\t1", "\t2"))
    target = tmp_path / "submission.zip"
    assert f"{file}, line 2: the prediction is '2'" in error_of(capsys, ["submission", str(runs), f"--to={target}"])
    assert os.listdir(tmp_path) == ["runs"]


def test_a_diagnostic_set_that_is_not_there(tmp_path, runs):
    write_predictions(runs / "mnli-1")
    (runs / "mnli-1/predictions/AX.tsv").unlink()
    message = r"AX\.tsv is missing: data\.root of the run has no ax of MNLI.*depthlab predict"
    with pytest.raises(UserError, match=message):
        check_predictions(GLUE_TASKS["mnli"], runs / "mnli-1")


def test_a_place_that_cannot_be_written(tmp_path, runs, predicted, capsys):
    (tmp_path / "mine.zip").write_text("mine")
    for name, error in (("mine.zip", "exists already"), ("mine.zip/submission.zip", "cannot write --to")):
        assert error in error_of(capsys, ["submission", str(runs), f"--to={tmp_path}/{name}"])
    assert (tmp_path / "mine.zip").read_text() == "mine" and not predicted
    with pytest.raises(UserError, match="cannot write --to"):
        module.write_zip(tmp_path / "submission.zip", [tmp_path / "none"])
    assert not list(tmp_path.glob("*submission*"))


def test_a_run_that_cannot_predict(tmp_path, runs, monkeypatch):
    class Failed:
        returncode = 2

    monkeypatch.setattr(module.subprocess, "run", lambda command: Failed)
    with pytest.raises(UserError, match=r"rte-1: no predictions; .*`depthlab predict --config .*rte-1/config\.yaml"):
        module.predict(runs / "rte-1")
