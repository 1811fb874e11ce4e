"""`depthlab status`, of runs and sweeps in every state, as they leave them."""

import json
import subprocess
import sys
import time

import pytest
import torch
from filelock import FileLock

from depthlab.callbacks import PonderMonitor, Reporter, ThroughputMonitor
from depthlab.models import AdaptiveAlbertConfig
from depthlab.run import progress as progress_module
from depthlab.run.directory import RunDirectory
from depthlab.run.progress import ProgressFile, read_progress
from depthlab.run.sweep.grid import expand
from depthlab.run.sweep.state import FAILED, CellRun, begin
from depthlab.tasks import PretrainingTask
from tests.models.conftest import SIZES
from tests.support import error_of, printed_by, quiet_trainer
from tests.tasks.test_any_loader import LABELS, batches
from tests.test_cli import QUICK


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def status(*paths):
    return printed_by(["status", *map(str, paths)])


def test_a_run_says_how_far_it_is(run):
    torch.manual_seed(0)
    data = batches(**LABELS, kinds=lambda ids: 0 * ids)
    task = PretrainingTask(AdaptiveAlbertConfig(**SIZES), warmup_steps=0)
    with FileLock(run.lock), ProgressFile(run.progress) as file:
        reporter = Reporter(file, prints=False)
        watching = [PonderMonitor(), ThroughputMonitor(), reporter]
        trainer = quiet_trainer(max_epochs=2, callbacks=watching, log_every_n_steps=1)
        trainer.fit(task, data, data)
        measured = trainer.callback_metrics
        file._write()
        seen = status(run.path)
    assert f"{run.path}  running: exporting the model, for " in seen and "done        step 4 of 4 (100%)" in seen
    for stage in ("train", "val"):
        line = next(line for line in seen.splitlines() if line.startswith(f"  {stage}  "))
        for name, form in {"loss": ".4g", "depth": ".2f"}.items():
            tag = {"loss": "loss/total", "depth": "depth/all"}[name]
            assert f"{name} {measured[f'{stage}/{tag}']:{form}}" in line
        assert f"mlm {measured[f'{stage}/loss/mlm']:.4g}" in line
    assert "after step 4" in seen and " token-iterations/s" in seen and "checkpoint  none yet" in seen
    assert read_progress(run.progress).state == "finished"


def ended_by(run, error):
    with pytest.raises(error), ProgressFile(run.progress) as file:
        file.say("training", step=7, steps=10)
        raise error("out of luck")


def test_how_a_run_has_ended(run):
    ended_by(run, KeyboardInterrupt)
    run.checkpoints.mkdir()
    run.last.touch()
    seen = status(run.path)
    assert f"{run.path}  stopped\n" in seen and "step 7 of 10 (70%)\n" in seen
    assert "last.ckpt of 0 s ago" in seen and "--ckpt_path last" in seen
    run.progress.unlink()
    ended_by(run, ValueError)
    assert f"{run.path}  failed: out of luck\n" in status(run.path)
    run.write_results({})
    seen = status(run.path.parent)
    assert seen == f"{run.path}  finished\n"


def test_a_run_that_was_killed_or_hangs_is_told_from_one_that_goes_on(run):
    file = ProgressFile(run.progress)
    file.say("waiting for a batch", step=7)
    file.progress.since = time.time() - 300
    file._write()
    assert "killed, or its machine went down, " in status(run.path)
    with FileLock(run.lock):
        assert "  running: waiting for a batch, for 5 min" in status(run.path)
        said = json.loads(run.progress.read_text())
        run.progress.write_text(json.dumps(said | {"written": said["written"] - 240}))
        assert "it has said nothing for 4 min" in status(run.path)
        run.progress.write_text("{")
        assert status(run.path).startswith(f"{run.path}  running\n")


def test_it_is_written_while_the_run_hangs(run, monkeypatch):
    monkeypatch.setattr(progress_module, "EVERY", 0.01)
    with ProgressFile(run.progress):
        first = written = read_progress(run.progress).written
        while written == first:  # fails by the time limit of the suite
            time.sleep(0.01)
            written = read_progress(run.progress).written
    said = run.progress.read_text()
    with pytest.raises(ValueError), ProgressFile(run.progress):
        raise ValueError("these settings are not the run's")
    assert run.progress.read_text() == said  # it has gone on with nothing
    elsewhere = run.progress.with_name("gone") / "progress.json"
    with ProgressFile(elsewhere):
        pass  # what can't be written stops nothing
    with ProgressFile(run.path / "other.json", writes=False):
        assert not (run.path / "other.json").exists()


def test_a_sweep(tmp_path):
    cells = [CellRun(cell, tmp_path) for cell in expand([{"data.task": ["rte", "mrpc", "cola", "wnli"]}])]
    begin(tmp_path, cells[:2], {})
    begin(tmp_path, cells[1:], {})
    finished, failed, running, _ = cells
    for cell in (finished, running):
        cell.directory.path.mkdir()
    finished.directory.write_results({"val/score": 0.5})
    finished.log.touch()
    failed.log.write_text(f"words\n{FAILED}no such folder\n")
    with running.claim(), FileLock(running.directory.lock), ProgressFile(running.directory.progress) as file:
        file.say("validating", step=5, steps=10)
        file._write()
        seen = status(tmp_path)
    assert seen.splitlines() == [
        f"{tmp_path}  4 cells, 1 finished, 1 failed, 1 running, 1 waiting",
        "  task=mrpc  failed: no such folder",
        "  task=cola  running: validating, for 0 s; step 5 of 10 (50%)",
    ]


def test_what_is_no_run_is_told(tmp_path, capsys):
    assert "holds neither a run nor a sweep" in error_of(capsys, ["status", str(tmp_path)])


def test_it_needs_no_model(run):
    run.last.parent.mkdir()
    run.last.touch()
    shown = subprocess.run(
        [sys.executable, "-c", QUICK, "status", str(run.path)], capture_output=True, text=True
    ).stdout
    loaded = {name.partition(".")[0] for name in shown.split()}
    assert f"{run.path}  stopped" in shown
    assert not {"torch", "transformers", "lightning", "pandas", "tensorboard", "matplotlib"} & loaded
