"""Probing through the command line: it learns, is tested, and depth may be fixed."""

import pytest

from depthlab.cli import main
from tests.data.benchmarks.probing_fixtures import ROWS, write_probing
from tests.support import error_of, fine_tuning, results, write_checkpoint

LEARNS = {
    "data__batch_size": 20,
    "trainer__max_epochs": 30,
    "trainer__check_val_every_n_epoch": 30,
    "trainer__log_every_n_steps": 30,
    "model__optimizer__init_args__lr": 4e-3,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_checkpoint(folder / "checkpoint")
    write_probing(folder / "probing")
    return folder


def command(inputs, run_dir, name, task, **changes):
    return fine_tuning(inputs, run_dir, name, task, suite="probing", **changes)


@pytest.mark.full
def test_tense_is_over_fitted_and_tested(inputs, tmp_path, capsys):
    run_dir = tmp_path / "run"
    main(command(inputs, run_dir, "fit", "tense", **LEARNS))
    found = results(run_dir)
    assert found["val/accuracy"] == found["val/score"] == 1 and found["task"] == "tense"
    assert {name for name in found if "val/depth/label/" in name} == {"val/depth/label/PAST", "val/depth/label/PRES"}
    assert 1 <= found["val/depth/all"] <= 4
    assert found["test/accuracy"] == 1, "the best state, tested by the fit itself"
    for name in ("depth/all", "depth/cls", "depth/label/PAST"):  # its rows are those of dev
        assert found[f"test/{name}"] == pytest.approx(found[f"val/{name}"])
    after_fit = capsys.readouterr().out
    main(command(inputs, run_dir, "test", "past_present"))  # the same task
    printed = capsys.readouterr().out
    assert "| tense, test | |" in printed and "| accuracy (%) | 100.00 |" in printed
    assert f"| mean depth, all tokens | {found['test/depth/all']:.2f} |" in printed
    assert printed[printed.index("| tense, test |") :] in after_fit and results(run_dir) == found
    main(command(inputs, run_dir, "predict", "tense"))
    header, *lines = (run_dir / "predictions/tense.tsv").read_text().splitlines()
    assert header == "index\tprediction"
    assert [line.split("\t")[1] for line in lines] == [label for label, _ in ROWS["tense"][::-1]]


def test_many_classes_at_fixed_depth(inputs, tmp_path):
    run_dir = tmp_path / "run"
    main(command(inputs, run_dir, "fit", "top_constituents", **LEARNS, model__depth__halting="fixed"))
    found = results(run_dir)
    assert found["val/accuracy"] == 1 and found["val/depth/all"] == 4
    assert found["model"]["halting"] == "fixed" and "time_penalty" in found["model"]
    assert len([name for name in found if "val/depth/label/" in name]) == 4


def test_the_best_epoch_is_kept_and_tested(inputs, tmp_path, capsys):
    main(command(inputs, tmp_path / "run", "fit", "subj_number", data__batch_size=2, trainer__max_epochs=5))
    found = results(tmp_path / "run")
    scores = [epoch["val/score"] for epoch in found["epochs"]]
    assert len(scores) == 5 and found["val/score"] == max(scores)
    assert found["best_epoch"] == 1 + scores.index(max(scores))
    assert found["best_epoch"] < 5, "the last state would do"
    assert found["test/score"] == max(scores)  # its rows are those of dev
    assert found["test/loss/task"] == pytest.approx(found["val/loss/task"])
    assert found["test/loss/task"] != pytest.approx(found["epochs"][-1]["val/loss/task"])
    assert f"{found['token_iterations']:,} token-iterations computed" in capsys.readouterr().out, "of all epochs"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("data.task", "snli", "snli"),
        ("data.root", "no/such/folder", "no past_present.txt there"),
        ("data.root", "null", "data.root is not set"),
    ],
)
def test_a_bad_setting_gets_one_line(inputs, tmp_path, capsys, name, value, expected):
    bad = [*command(inputs, tmp_path / "run", "fit", "tense"), f"--{name}={value}"]
    assert expected in error_of(capsys, bad)
    assert not (tmp_path / "run").exists()
