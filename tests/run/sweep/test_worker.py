"""What becomes of a sweep's cells, with a stub in place of `depthlab fit`: workers and runs are real processes."""

import multiprocessing
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from depthlab.errors import UserError
from depthlab.run.sweep import worker
from depthlab.run.sweep.grid import expand
from depthlab.run.sweep.state import CellRun, begin
from depthlab.run.sweep.worker import environment_of_a_run, work

STUB = """
import json, os, signal, sys, time
run_dir, kind, resumes = sys.argv[1:]
os.makedirs(run_dir + "/checkpoints", exist_ok=bool(int(resumes)))
with open(os.path.dirname(run_dir) + "/ran.txt", "a") as ran:
    ran.write(f"{os.path.basename(run_dir)} {resumes} {os.getpid()}\\n")
def stop(number, frame):
    open(run_dir + "/checkpoints/last.ckpt", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(run_dir + "/config.yaml", "w").close()
print("training", flush=True)
if kind == "breaks":
    sys.exit("Warning: none\\ndepthlab: error: no such folder\\nbye")
if kind == "crashes":
    os.kill(os.getpid(), signal.SIGKILL)
if kind == "long" and resumes == "0":
    time.sleep(60)
while kind == "waits" and not os.path.exists(os.path.dirname(run_dir) + "/go"):
    time.sleep(0.02)
if kind == "broken":
    with open(run_dir + "/results.json", "w") as file:
        file.write('{"val/score": 0.')
    sys.exit(0)
scores = {"odd": {"val/score": [1]}, "list": [1]}
scores |= {"diverges": {"val/score": float("nan")}, "pretrains": {"val/loss/total": 3.5}}
if kind != "forgets":
    with open(run_dir + "/unfinished", "w") as file:
        json.dump(scores.get(kind, {"val/score": 0.5}), file)
    os.rename(run_dir + "/unfinished", run_dir + "/results.json")
"""


def stub(cell, run_dir, resumes):
    return [sys.executable, "-S", "-E", "-c", STUB, str(run_dir), cell.settings["kind"], str(int(resumes))]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(worker, "POLL", 0.1)


def runs_in(directory, kinds, seeds=1):
    return [CellRun(cell, directory) for cell in expand([{"kind": kinds, "seed": list(range(seeds))}])]


def start(runs, barrier=None):
    """A worker in a process of its own."""

    def run():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if barrier is not None:
            barrier.wait(60)
        with suppress(KeyboardInterrupt):
            work(runs, stub)

    process = multiprocessing.get_context("fork").Process(target=run, daemon=True)
    process.start()
    return process


def ended(process):
    process.join(60)
    return process.exitcode == 0


def ran(directory):
    """What has been started, in order: names of the cells, whether they were resumed, and the processes."""
    file = directory / "ran.txt"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def outcomes(runs):
    return [run.outcome() for run in runs]


def test_three_workers_that_start_at_once_run_every_cell_once_and_a_fourth_nothing(tmp_path, capfd):
    runs, barrier = runs_in(tmp_path, ["works"], 8), multiprocessing.get_context("fork").Barrier(3)
    workers = [start(runs, barrier) for _ in range(3)]
    assert all(map(ended, workers))
    assert sorted(name for name, *_ in ran(tmp_path)) == [run.cell.name for run in runs]
    assert outcomes(runs) == [0.5] * 8
    printed = capfd.readouterr().out
    assert len(re.findall(r"\] .*kind=works,seed=\d finished in 0:00:\d\d, score 0.5000", printed)) == 8
    assert re.search(r"\[[1-7]/8\] about 0:00:\d\d left with [123] worker", printed) and "[8/8] kind=" in printed
    work(runs, stub)
    assert len(ran(tmp_path)) == 8 and not capfd.readouterr().out


FAILURES = {
    "breaks": "no such folder",
    "crashes": "killed by SIGKILL",
    "diverges": "its score is not a number",
    "forgets": "training",
    "broken": "results.json, line 1: not JSON (Expecting ',' delimiter)",
    "odd": "results.json is not what a run writes (val/score is [1])",
    "list": "results.json is not what a run writes (it holds no names)",
}


def test_failures_are_recorded_and_stop_nothing(tmp_path, capsys):
    runs, succeeded = runs_in(tmp_path, [*FAILURES, "works", "pretrains"]), [0.5, -3.5]  # a score; a loss
    work(runs, stub)
    assert outcomes(runs) == [*FAILURES.values(), *succeeded]
    assert "failed: no such folder" in capsys.readouterr().out
    assert "depthlab: error: no such folder" in runs[0].log.read_text()
    work(runs, stub)
    assert len(ran(tmp_path)) == 9
    for run in runs:
        run.forget_failure()
    assert outcomes(runs) == [None] * 7 + succeeded
    work(runs, stub)
    assert len(ran(tmp_path)) == 16, "what has diverged starts anew, too"
    assert outcomes(runs) == [*FAILURES.values(), *succeeded]


BROKEN = {"cells.json": ['["a"', "5", "{}", "[1]"], "sweep.json": ['{"a": ', "[]", "null"]}


@pytest.mark.parametrize("name", BROKEN)
def test_what_a_hand_has_broken_in_a_sweep_is_one_line(tmp_path, name):
    """A run's results that were broken after it had ended are a failure, and it runs again when asked."""
    runs = runs_in(tmp_path, ["works"])
    begin(tmp_path, runs, {"a": 1})
    work(runs, stub)
    runs[0].directory.results.write_bytes(b"\xff")
    assert "results.json cannot be read" in runs[0].outcome()
    work(runs, stub)
    runs[0].forget_failure()
    work(runs, stub)
    assert runs[0].outcome() == 0.5
    for content in BROKEN[name]:
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=re.escape(name)):
            begin(tmp_path, runs, {"a": 1})


def test_a_failed_run_goes_on_from_where_it_was(tmp_path):
    (run,) = runs_in(tmp_path, ["works"])
    run.directory.checkpoints.mkdir(parents=True)
    run.directory.last.touch()
    run.log.write_text("depthlab sweep: failed: out of memory\n")
    work([run], stub)
    assert not ran(tmp_path)
    run.forget_failure()
    work([run], stub)
    assert [resumes for _, resumes, _ in ran(tmp_path)] == ["1"] and run.outcome() == 0.5


def test_ctrl_c_lets_a_run_save_and_it_resumes(tmp_path):
    (run,) = runs = runs_in(tmp_path, ["long"])
    process = start(runs)
    wait_until(run.directory.config.exists)
    assert run.is_running()
    os.kill(process.pid, signal.SIGINT)
    assert ended(process)
    assert run.directory.last.exists(), "it was let finish its step"
    assert run.outcome() is None and not run.is_running()
    work(runs, stub)
    assert [resumes for _, resumes, _ in ran(tmp_path)] == ["0", "1"] and run.outcome() == 0.5


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    (run,) = runs = runs_in(tmp_path, ["waits"])
    process = start(runs)
    wait_until(run.directory.config.exists)
    stuck = ran(tmp_path)[0][2]
    os.kill(int(stuck), signal.SIGSTOP)  # it cannot save any more
    os.kill(process.pid, signal.SIGINT)
    wait_until(lambda: "ShdPnd:\t0000000000004000" in Path(f"/proc/{stuck}/status").read_text())  # SIGTERM
    os.kill(process.pid, signal.SIGINT)
    assert ended(process) and not run.is_running()


def test_a_run_whose_worker_has_been_killed_is_waited_for(tmp_path):
    (run,) = runs = runs_in(tmp_path, ["waits"])
    first = start(runs)
    wait_until(run.directory.config.exists)
    first.kill()
    first.join(30)
    assert run.is_running(), "the lock is the run's, too"
    second = start(runs)
    time.sleep(0.3)
    (tmp_path / "go").touch()
    assert ended(second)
    assert len(ran(tmp_path)) == 1 and run.outcome() == 0.5


def test_a_run_killed_before_it_had_saved_starts_again_by_the_worker_that_waits(tmp_path):
    (run,) = runs = runs_in(tmp_path, ["waits"])
    first = start(runs)
    wait_until(run.directory.config.exists)
    second = start(runs)
    first.kill()
    first.join(30)
    os.kill(int(ran(tmp_path)[0][2]), signal.SIGKILL)
    (tmp_path / "go").touch()
    assert ended(second)
    assert [resumes for _, resumes, _ in ran(tmp_path)] == ["0", "0"] and run.outcome() == 0.5


def test_other_settings_and_other_runs_do_not_mix(tmp_path):
    runs, settings = runs_in(tmp_path, ["works"]), {"model.checkpoint": "nano", "trainer.max_epochs": 4}
    for _ in range(2):
        begin(tmp_path, runs, settings)
    for change, expected in (
        ({"model.checkpoint": "other"}, "begun with model.checkpoint nano, not other"),
        ({"data.root": "GLUE"}, "begun with data.root None, not GLUE"),
    ):
        with pytest.raises(UserError, match=f"{expected}: name another --run_dir"):
            begin(tmp_path, runs, settings | change)
    (tmp_path / "sweep.json").unlink()
    begin(tmp_path, runs, settings)
    runs[0].directory.path.mkdir()
    (tmp_path / "sweep.json").unlink()
    with pytest.raises(UserError, match=r"kind=works,seed=0 is there already, but no .*sweep\.json"):
        begin(tmp_path, runs, settings)


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ({"HOME": "/", "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "CUDA_VISIBLE_DEVICES": "1"}, "1"),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1", "RANK": "3"}, "1"),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "4,6"}, "6"),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
    ],
)
def test_a_run_is_no_rank_among_workers(ours, expected):
    theirs = environment_of_a_run(ours)
    assert theirs.get("CUDA_VISIBLE_DEVICES") == expected
    assert theirs.keys() <= {"HOME", "CUDA_VISIBLE_DEVICES"}
