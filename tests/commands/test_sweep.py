"""`depthlab sweep` from its arguments to its last word; bad ones get one line."""

import functools
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from depthlab.cli import main
from depthlab.commands import experiment as experiment_module
from depthlab.commands import sweep as command
from depthlab.commands.experiment import read_settings
from depthlab.run.sweep.grid import Cell
from tests.support import FINE_TUNING, REPOSITORY, arguments, error_of, results, write_inputs

LR = "model.optimizer.init_args.lr"
STUB = """
import json, os, sys
os.makedirs(sys.argv[1])
if "mrpc" in sys.argv[1] and not os.path.exists("mended"):
    sys.exit("depthlab: error: no such folder")
json.dump({"val/score": 0.75}, open(sys.argv[1] + "/results.json", "w"))
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A small grid, and a stub in place of `depthlab fit`; yields what it was called with."""
    (tmp_path / "small.yaml").write_text(
        f"base: {os.path.relpath(REPOSITORY / 'experiments/glue.yaml', tmp_path)}\n"
        f"sweep: {{data.task: [rte, mrpc], {LR}: [5e-5, 3.0e-5]}}\n"
    )
    for folder in ("RTE", "MRPC"):
        (tmp_path / "GLUE" / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    calls = []

    def fit(configs, shared, cell, run_dir, resumes):
        calls.append((shared, cell.settings))
        return [sys.executable, "-S", "-E", "-c", STUB, str(run_dir)]

    monkeypatch.setattr(command, "fit_command", fit)
    read = functools.cache(lambda *arguments: read_settings(arguments))  # again and again the same
    monkeypatch.setattr(experiment_module, "read_settings", lambda arguments: read(*arguments))
    return calls


def sweep(*arguments):
    main(["sweep", "--config", "small.yaml", *arguments])


def test_a_sweep_from_beginning_to_end(experiment, tmp_path, capsys):
    sweep("--data.root", "GLUE", "--data.num_workers=0")
    expected = [{"data.task": task, LR: lr} for task in ("rte", "mrpc") for lr in (5e-5, 3e-5)]
    assert experiment == [(["--data.root=GLUE", "--data.num_workers=0"], cell) for cell in expected]
    printed = capsys.readouterr().out
    assert printed.startswith("4 cells, 0 finished, 4 waiting; runs and their logs: checkpoints/runs/small\n")
    summary = printed[printed.index("\n4 cells, 2 finished, 2 failed\n") :]
    assert summary.count("failed    task=mrpc,lr=") == 2 and "no such folder (checkpoints/runs/small/" in summary
    assert "--retry_failed" in summary and "depthlab report glue checkpoints/runs/small" in summary

    (tmp_path / "mended").touch()
    one = ("--data.root", "GLUE", "--data.num_workers=2", "--data.task", "mrpc", f"--{LR}", "[2e-5, 3e-5]")
    sweep(*one)
    assert experiment[4:] == [(["--data.root=GLUE", "--data.num_workers=2"], {"data.task": "mrpc", LR: 2e-5})]
    sweep(*one, "--retry_failed")
    assert experiment[5:] == [(["--data.root=GLUE", "--data.num_workers=2"], {"data.task": "mrpc", LR: 3e-5})]
    assert "\n2 cells, 2 finished\n" in capsys.readouterr().out

    assert "begun with data.root GLUE, not None" in error_of(capsys, ["sweep", "--config=small.yaml"])
    other = ["sweep", "--config=small.yaml", "--data.root=GLUE", "--model.warmup_steps=5"]
    assert "begun with model.warmup_steps 200, not 5: name another --run_dir" in error_of(capsys, other)
    assert len(experiment) == 6


def test_the_grid_on_the_command_line(experiment, capsys):
    one = ("--sweep", f"[{{data.task: [cola], {LR}: [1e-5]}}]", "--run_dir", "elsewhere")
    sweep(*one)
    assert experiment == [([], {"data.task": "cola", LR: 1e-5})]
    assert os.path.exists("elsewhere/task=cola,lr=1e-05/results.json")
    os.remove("elsewhere/sweep.json")
    error = error_of(capsys, ["sweep", "--config=small.yaml", *one])
    assert "elsewhere/task=cola,lr=1e-05 is there already, but no elsewhere/sweep.json" in error


def test_the_command_of_a_cell():
    """It is one that `depthlab fit` takes; the cell's values have the last word."""
    config = f"--config={REPOSITORY / 'experiments/glue.yaml'}"
    cell = Cell({"data.task": "rte", LR: 2e-5, "model.depth.time_penalty": None, "seed_everything": 3}, "name")
    shared = ["--data.batch_size=4", "--data.task=cola"]
    python, *words = command.fit_command([config], shared, cell, REPOSITORY / "a=1,b=2", True)
    assert python == sys.executable and words[:3] == ["-m", "depthlab", "fit"]
    settings = read_settings(words[3:])
    assert (settings["data"]["task"], settings["data"]["batch_size"], settings["data"]["seed"]) == ("rte", 4, 3)
    assert settings["model"]["optimizer"]["init_args"]["lr"] == 2e-5
    assert settings["model"]["depth"]["time_penalty"] is None
    assert (settings["run_dir"], settings["ckpt_path"]) == (str(REPOSITORY / "a=1,b=2"), "last")
    assert settings["sweep"] is None and settings["trainer"]["enable_progress_bar"] is False
    assert "--ckpt_path=last" not in command.fit_command([config], shared, cell, REPOSITORY, False)


BAD = {
    "no grid": (["--config", str(REPOSITORY / "experiments/retrofit.yaml")], "there is no grid"),
    "no file": (["--config", "none.yaml"], "none.yaml"),
    "no experiment": (["--data.task", "rte"], "-c/--config"),
    "no setting": (["--config=small.yaml", "--data.tusk", "rte"], "--data.tusk"),
    "no axis": (["--config=small.yaml", "--sweep={data.tusk: [rte]}"], "tusk=rte: unrecognized arguments: --data.tusk"),
    "no value of an axis": (["--config=small.yaml", "--data.task=[rte, snli]"], "snli"),
    "no value": (["--config=small.yaml", "--data.task"], "--data.task: settings are given as --NAME VALUE"),
    "no values": (["--config=small.yaml", "--data.task=[]"], "--data.task has no values"),
    "no YAML": (["--config=small.yaml", "--data.task=[rte"], "--data.task [rte is not YAML"),
    "no name": (["--config=small.yaml", "data.task", "rte"], "data.task: settings are given as"),
    "no data": (
        ["--config=small.yaml", "--data.root=GLUE", "--data.task=[rte, cola]"],
        "the grid's cell task=cola,lr=3e-05: GLUE/CoLA: no such folder; set data.root",
    ),
    "no corpus": (
        ["--config", str(REPOSITORY / "experiments/pretrain.yaml"), "--sweep={data.corpus: [a.txt]}"],
        "the grid's cell corpus=a.txt: a.txt: no such file or folder; correct data.corpus",
    ),
    "no number": (
        ["--config=small.yaml", "--data.batch_size=0"],
        "lr=5e-05: data.batch_size is 0; it must be 1 or more",
    ),
    "no option": (["--config=small.yaml", "--retry-failed"], "no --retry-failed: did you mean --retry_failed?"),
    "no directory": (["--config=small.yaml", "--run_dir=small.yaml/sweep"], "--run_dir small.yaml/sweep"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_get_one_line(experiment, tmp_path, capsys, name):
    arguments, expected = BAD[name]
    assert expected in error_of(capsys, ["sweep", *arguments])
    assert not experiment and not [*tmp_path.rglob("sweep.json")]


@pytest.mark.full
def test_real_runs_share_a_grid_and_survive_ctrl_c(tmp_path):
    """A worker is interrupted in its first run; two of `torchrun`'s go on, each as one of its own."""
    write_inputs(tmp_path)
    settings = FINE_TUNING | {
        "data.root": tmp_path / "glue",
        "data.cache_dir": tmp_path / "cache",
        "model.checkpoint": tmp_path / "checkpoint",
        "trainer.max_epochs": 20,
        "checkpoint.every_n_steps": 1,
        "run_dir": tmp_path / "sweep",
        "sweep": "{data.task: [rte, cola], seed_everything: [0, 1]}",
    }
    words = ["-m", "depthlab", *arguments("sweep", "glue", settings)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}

    def start(*launcher):
        command = [sys.executable, *launcher, *words]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    worker, deadline = start(), time.monotonic() + 200
    while not [*tmp_path.glob("sweep/*/checkpoints/last.ckpt")]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker.send_signal(signal.SIGINT)
    assert "Interrupted. Go on: the same command" in worker.communicate(timeout=200)[0]
    assert worker.returncode == 130
    both = start("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    printed = both.communicate(timeout=400)[0]
    assert both.returncode == 0 and printed.count("\n4 cells, 4 finished\n") == 2, printed
    runs = sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert runs == [f"task={task},seed_everything={seed}" for task in ("cola", "rte") for seed in (0, 1)]
    for run in runs:
        found = results(tmp_path / "sweep" / run)
        assert len(found["epochs"]) == 20 and found["seed"] == int(run[-1])
        saved = yaml.safe_load((tmp_path / "sweep" / run / "config.yaml").read_text())
        assert saved["data"]["task"] == found["task"] and saved["sweep"] is None
        assert "sweep" not in yaml.safe_load((tmp_path / "sweep" / run / "model/training.yaml").read_text())
    logs = "".join(log.read_text() for log in tmp_path.glob("sweep/*.log"))
    assert logs.count("TensorBoard ") == 4, "as many runs have ended"
    assert "Interrupted after step" in logs
