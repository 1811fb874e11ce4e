"""What becomes of a cell's run, with a stub in place of `depthlab fit`: workers and runs are real processes."""

import multiprocessing
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing, suppress

import pytest
from optuna.trial import TrialState

from depthlab.run.sweep import worker
from depthlab.run.sweep.grid import expand
from depthlab.run.sweep.queue import SILENCE, Queue
from depthlab.run.sweep.worker import duration, work

STUB = """
import json, os, signal, sys, time
run_dir, kind, resumes = sys.argv[1:]
os.makedirs(run_dir + "/checkpoints", exist_ok=bool(int(resumes)))
with open(os.path.dirname(run_dir) + "/ran.txt", "a") as ran:
    ran.write(f"{os.path.basename(run_dir)} {resumes}\\n")
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
if kind == "diverges":
    score = float("nan")
else:
    score = 0.5
if kind == "long" and resumes == "0":
    time.sleep(60)
if kind == "slow":
    time.sleep(1.5)
if kind != "forgets":
    json.dump({"val/score": score}, open(run_dir + "/results.json", "w"))
"""


def stub(cell, run_dir, resumes):
    return [sys.executable, "-S", "-E", "-c", STUB, str(run_dir), cell.settings["kind"], str(int(resumes))]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(worker, "HEARTBEAT", 0.1)
    monkeypatch.setattr(worker, "POLL", 0.1)


def open_queue(directory, kinds, seeds=1):
    return Queue(f"sqlite:///{directory}/sweep.db", "study", expand([{"kind": kinds, "seed": list(range(seeds))}]))


def start(directory, kinds, seeds=1):
    """A worker in a process of its own."""

    def run():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            work(open_queue(directory, kinds, seeds), directory, stub)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def ran(directory):
    """What has been started, in order: names of the cells, and whether they were resumed."""
    file = directory / "ran.txt"
    return file.read_text().splitlines() if file.exists() else []


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def query(directory, statement):
    with closing(sqlite3.connect(directory / "sweep.db")) as connection, connection:
        connection.execute(statement)


def silence(directory):
    query(directory, f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '-{SILENCE + 1} seconds')")


def states(queue):
    return [trial.state for trial in queue.trials()]


def test_two_workers_run_every_cell_once_and_a_third_nothing(tmp_path, capfd):
    workers = [start(tmp_path, ["works"], 5) for _ in range(2)]
    for process in workers:
        process.join(60)
        assert process.exitcode == 0
    expected = sorted(f"kind=works,seed={seed} 0" for seed in range(5))
    assert sorted(ran(tmp_path)) == expected
    queue = open_queue(tmp_path, ["works"], 5)
    assert [(trial.state, trial.value) for trial in queue.trials()] == [(TrialState.COMPLETE, 0.5)] * 5
    printed = capfd.readouterr().out
    assert printed.count("score 0.5000") == 5
    counts = sorted(int(count) for count in re.findall(r"\[(\d)/5\]", printed))
    # Two runs that end together count each other, so a count may be ahead of its run's place, never behind.
    assert len(counts) == 5 and counts[-1] == 5 and all(count >= place for place, count in enumerate(counts, 1))
    assert len(re.findall(r"\[[1-4]/5\] about \d+ s left with [12] worker", printed)) == 5 - counts.count(5)
    work(queue, tmp_path, stub)
    assert sorted(ran(tmp_path)) == expected
    assert not re.search(r"\[\d/5\]", capfd.readouterr().out)


FAILURES = {
    "breaks": "no such folder",
    "crashes": "killed by SIGKILL",
    "diverges": "its score is not a number",
    "forgets": "training",
}


def test_failures_are_recorded_and_stop_nothing(tmp_path, capsys):
    queue = open_queue(tmp_path, [*FAILURES, "works"])
    work(queue, tmp_path, stub)
    *failed, works = queue.trials()
    assert [trial.user_attrs["error"] for trial in failed] == [*FAILURES.values()]
    assert {trial.state for trial in failed} == {TrialState.FAIL}
    assert works.state == TrialState.COMPLETE
    assert "failed: no such folder" in capsys.readouterr().out
    assert "depthlab: error: no such folder" in (tmp_path / "kind=breaks,seed=0.log").read_text()
    queue = open_queue(tmp_path, [*FAILURES, "works"])
    work(queue, tmp_path, stub)
    assert len(ran(tmp_path)) == 5
    queue.trials(retry_failed=True)
    work(queue, tmp_path, stub)
    assert len(ran(tmp_path)) == 9, "what has diverged starts anew, too"
    assert [trial.user_attrs["error"] for trial in queue.trials()[:4]] == [*FAILURES.values()]


def test_ctrl_c_gives_the_cell_back_and_its_run_resumes(tmp_path):
    process = start(tmp_path, ["long"])
    wait_until(lambda: ran(tmp_path) and (tmp_path / "kind=long,seed=0/config.yaml").exists())
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 0
    assert (tmp_path / "kind=long,seed=0/checkpoints/last.ckpt").exists(), "it was let finish its step"
    queue = open_queue(tmp_path, ["long"])
    assert states(queue) == [TrialState.WAITING]
    work(queue, tmp_path, stub)
    assert ran(tmp_path) == ["kind=long,seed=0 0", "kind=long,seed=0 1"]
    assert states(queue) == [TrialState.COMPLETE]
    assert "seconds" not in queue.trials()[0].user_attrs, "it says nothing of how long a run takes"


def test_a_run_whose_worker_has_died_is_waited_for(tmp_path):
    process = start(tmp_path, ["slow"])
    wait_until(lambda: ran(tmp_path))
    process.kill()
    process.join(30)
    queue = open_queue(tmp_path, ["slow"])
    assert queue.take() is None, "it may be alive"
    silence(tmp_path)
    work(queue, tmp_path, stub)
    assert ran(tmp_path) == ["kind=slow,seed=0 0"]
    assert states(queue) == [TrialState.COMPLETE]


def test_a_run_that_died_before_it_had_saved_starts_again(tmp_path):
    process = start(tmp_path, ["long"])
    run_dir = tmp_path / "kind=long,seed=0"
    wait_until(lambda: (run_dir / "config.yaml").exists())
    process.kill()
    process.join(30)
    (child,) = (int(pid) for pid in os.listdir("/proc") if pid.isdigit() and str(run_dir) in command_line(pid))
    os.kill(child, signal.SIGKILL)
    silence(tmp_path)
    finish = open_queue(tmp_path, ["long"])
    work(finish, tmp_path, lambda cell, run_dir, resumes: [*stub(cell, run_dir, resumes)[:-2], "works", "0"])
    assert ran(tmp_path) == ["kind=long,seed=0 0"] * 2
    assert states(finish) == [TrialState.COMPLETE]


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def test_a_worker_that_was_silent_for_too_long_stops_its_run(tmp_path, capsys):
    """Another has taken it up: here the same, which goes on with it."""
    queue = open_queue(tmp_path, ["long"])
    queue.trials()
    run_dir = tmp_path / "kind=long,seed=0"

    def lose():
        wait_until(lambda: (run_dir / "config.yaml").exists())
        query(tmp_path, "UPDATE trials SET state = 'FAIL' WHERE state = 'RUNNING'")

    loser = threading.Thread(target=lose)
    loser.start()
    work(queue, tmp_path, stub)
    loser.join()
    assert "taken up by another worker" in capsys.readouterr().out
    assert ran(tmp_path) == ["kind=long,seed=0 0", "kind=long,seed=0 1"]
    assert states(queue) == [TrialState.COMPLETE]


def test_an_experiment_without_a_score_has_its_loss(tmp_path):
    def pretrain(cell, run_dir, resumes):
        code = 'import json,os,sys; os.mkdir(sys.argv[1]); json.dump({"val/loss/total": 3.5}, open(sys.argv[2], "w"))'
        return [sys.executable, "-S", "-E", "-c", code, str(run_dir), f"{run_dir}/results.json"]

    queue = open_queue(tmp_path, ["any"])
    work(queue, tmp_path, pretrain)
    assert queue.trials()[0].value == -3.5


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 minutes"), (7199, "120 minutes"), (9000, "2 hours"), (2 * 86400, "2 days")],
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected
