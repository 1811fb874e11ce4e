"""Who runs which cell: each is taken once, whatever the workers do to each other."""

import multiprocessing
import shutil
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from optuna.storages._rdb import models
from optuna.trial import TrialState

from depthlab.errors import UserError
from depthlab.run.sweep import queue as queue_module
from depthlab.run.sweep.grid import expand
from depthlab.run.sweep.queue import SILENCE, Queue, TakenOver, cell_of, storage_errors

SETTINGS = {"model.checkpoint": "nano", "trainer.max_epochs": 4}


@pytest.fixture(scope="module")
def empty_storage(tmp_path_factory):
    """A file with all tables, which take a while to create."""
    file = tmp_path_factory.mktemp("storage") / "sweep.db"
    queue_module._open(f"sqlite:///{file}")
    return file


@pytest.fixture
def url(empty_storage, tmp_path):
    shutil.copy(empty_storage, tmp_path)
    return f"sqlite:///{tmp_path}/sweep.db"


def open_queue(url, values=(0, 1), **changes):
    queue = Queue(url, "study", expand([{"x": list(values)}]))
    queue.begin(SETTINGS | changes)
    return queue


def query(url, statement):
    """Behind the storage's back."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        return connection.execute(statement).fetchall()


def silence(url, seconds):
    """Nobody has given a sign of life for that long."""
    query(url, f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '-{seconds} seconds')")


def taken(queue):
    """All that can be taken."""
    trials = []
    while (trial := queue.take()) is not None:
        trials.append(trial)
    return [cell_of(trial).settings["x"] for trial in trials]


def drain(url, barrier, names):
    """A worker that takes until nothing is left."""
    barrier.wait(60)
    queue = open_queue(url, range(7))
    while (trial := queue.take()) is not None:
        names.put(cell_of(trial).name)
        time.sleep(0.01)
        queue.finish(trial, 1.0, 1.0)


def test_workers_that_start_at_once_share_the_cells(tmp_path):
    """They create tables and study at once, add the same trials at once, and meet at the tail."""
    url = f"sqlite:///{tmp_path}/new.db"
    context = multiprocessing.get_context("fork")
    barrier, names = context.Barrier(2), context.SimpleQueue()
    workers = [context.Process(target=drain, args=(url, barrier, names)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    ran = []
    while not names.empty():
        ran.append(names.get())
    assert Counter(ran) == Counter(f"x={value}" for value in range(7))
    assert all(trial.state == TrialState.COMPLETE for trial in open_queue(url, range(7)).trials())


def test_two_that_find_the_last_cell_waiting(url, monkeypatch):
    """Both read it before either has written: SQLite knows no SELECT ... FOR UPDATE."""
    queues = [open_queue(url, [0]) for _ in range(2)]
    queues[0].trials()
    find, barrier = models.TrialModel.find_or_raise_by_id.__func__, Barrier(2)

    def find_and_dawdle(cls, trial_id, session, for_update=False):
        trial = find(cls, trial_id, session, for_update)
        if for_update:
            time.sleep(0.3)
        return trial

    def take(queue):
        barrier.wait(60)
        return queue.take()

    monkeypatch.setattr(models.TrialModel, "find_or_raise_by_id", classmethod(find_and_dawdle))
    with ThreadPoolExecutor(2) as pool:
        assert sum(trial is not None for trial in pool.map(take, queues)) == 1


def test_trials_added_twice_run_once(url):
    """Two workers have found a cell missing, and another given back, at the same time."""
    queue = open_queue(url, [0])

    def add_twice(follows):
        for _ in range(2):
            queue.study.enqueue_trial({"x": 0}, user_attrs={"run": "x=0", "follows": follows})

    add_twice(None)
    first = queue.take()
    assert first.number == 0 and queue.take() is None
    queue.give_back(first)
    add_twice(0)
    second = queue.take()
    assert second.number == 2 and queue.take() is None
    queue.fail(second, "broken")
    assert queue.take() is None and [trial.number for trial in queue.trials()] == [2]


def test_what_is_done_is_not_taken_again(url):
    queue = open_queue(url)
    queue.finish(queue.take(), 0.5, 10.0)
    queue.fail(queue.take(), "out of memory")
    again = open_queue(url)
    assert again.take() is None
    done, failed = again.trials()
    assert (done.state, done.value, done.user_attrs["seconds"]) == (TrialState.COMPLETE, 0.5, 10.0)
    assert (failed.state, failed.user_attrs["error"]) == (TrialState.FAIL, "out of memory")
    again.trials(retry_failed=True)
    assert taken(again) == [1]
    assert taken(open_queue(url)) == []


def test_what_is_given_back_is_taken_by_the_next(url):
    one, other = open_queue(url, [0]), open_queue(url, [0])
    trial = one.take()
    assert other.take() is None
    one.give_back(trial)
    successor = other.take()
    assert successor.user_attrs["follows"] == trial.number
    assert cell_of(successor) == cell_of(trial)
    assert one.take() is None


def test_a_silent_worker_loses_its_cell(url):
    silent, other = open_queue(url, [0]), open_queue(url, [0])
    trial = silent.take()
    silence(url, SILENCE - 20)
    assert other.take() is None
    silent.beat(trial)
    silence(url, SILENCE + 1)
    assert cell_of(other.take()) == cell_of(trial)
    for late in (silent.beat, lambda t: silent.finish(t, 1.0, 1.0), lambda t: silent.fail(t, "late")):
        with pytest.raises(TakenOver):
            late(trial)
    silent.give_back(trial)
    assert [trial.state for trial in other.trials()] == [TrialState.RUNNING]
    assert other.take() is None


def test_a_worker_that_dies_as_it_takes_a_cell(url, monkeypatch):
    """The first sign of life comes before: a trial without any would never count as silent."""
    queue = open_queue(url, [0])

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queue.storage, "set_trial_user_attr", die)
        with pytest.raises(KeyboardInterrupt):
            queue.take()
    assert [trial.state for trial in queue.trials()] == [TrialState.RUNNING]
    silence(url, SILENCE + 1)
    assert taken(queue) == [0]


def test_a_run_outlives_the_loss_of_its_storage(url, monkeypatch):
    monkeypatch.setattr(queue_module, "LOCK_TIMEOUT", 0.1)
    queue = open_queue(url, [0])
    trial = queue.take()
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        queue.beat(trial)
    queue.finish(trial, 1.0, 1.0)


def test_a_grid_that_has_changed(url):
    queue = open_queue(url, [0, 1])
    queue.finish(queue.take(), 0.5, 10.0)
    changed = open_queue(url, [2, 0.0, 3])
    assert [trial.state for trial in changed.trials()] == [
        TrialState.WAITING,
        TrialState.COMPLETE,
        TrialState.WAITING,
    ]
    assert taken(changed) == [2, 3]
    assert taken(open_queue(url, [0, 1])) == [1]


def test_trials_of_others_are_left_alone(url):
    queue = open_queue(url, [0])
    queue.study.enqueue_trial({"x": 5})
    assert taken(queue) == [0]


def test_other_settings_do_not_mix(url):
    open_queue(url)
    for change, expected in (
        ({"model.checkpoint": "other"}, "begun with model.checkpoint nano, not other"),
        ({"data.root": "GLUE"}, "begun with data.root None, not GLUE"),
    ):
        with pytest.raises(UserError) as error:
            open_queue(url, **change)
        assert expected in str(error.value) and "--run_dir" in str(error.value)
    open_queue(url)


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("nonsense", "Could not parse SQLAlchemy URL"),
        ("nosuch://me:secret@host/x", "Can't load plugin"),
        ("mysql+cymysql://me:secret@host/x", "No module named"),
        ("sqlite:///{tmp_path}/no/such/folder.db", "unable to open database file"),
        ("sqlite:///{tmp_path}/text.db", "file is not a database"),
        ("sqlite:///{tmp_path}/locked.db", "database is locked"),
    ],
)
def test_storage_that_cannot_be_had(tmp_path, monkeypatch, bad, expected):
    monkeypatch.setattr(queue_module, "LOCK_TIMEOUT", 0.1)
    (tmp_path / "text.db").write_text("no database, but more than a hundred characters of text." * 5)
    bad = bad.format(tmp_path=tmp_path)
    with closing(sqlite3.connect(tmp_path / "locked.db")) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError) as error, storage_errors(bad):
            open_queue(bad)
    message = str(error.value)
    assert expected in message and "--storage" in message and "\n" not in message
    assert "secret" not in message
