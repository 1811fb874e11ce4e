"""Who runs which cell of a sweep: a queue in Optuna's storage that any number of workers take from."""

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError

from depthlab.errors import UserError
from depthlab.run.sweep.grid import Cell

HEARTBEAT = 30
"""Seconds between two signs of life of a worker."""
SILENCE = 180
"""Seconds without one after which its cell is taken up again."""
LOCK_TIMEOUT = 30
"""Seconds to wait for a SQLite file that another process has locked."""


class TakenOver(Exception):
    """A worker was silent for too long, and another has its cell now."""


class Queue:
    """The cells of a sweep, and what has become of each.

    A cell is a trial: WAITING, RUNNING by one worker, COMPLETE, or FAIL. A FAIL with an `error` is a run that failed;
    one without was given back, or its worker fell silent. Such a trial gets a successor, which says which one it
    `follows`. That needs no lock: where two workers have added the same trial at once, the first of the two counts.
    (`Study.ask` would hand out both, and cells that are in no grid any more, and samples of its own when it finds
    none; so trials are taken by name here.)

    Args:
        url: of the storage.
        name: of the study in it.
        cells: the cells; others that the study may have are left alone.
    """

    def __init__(self, url: str, name: str, cells: Sequence[Cell]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.cells = cells
        self.storage = _open(url)
        self.study = optuna.create_study(
            storage=self.storage, study_name=name, direction="maximize", load_if_exists=True
        )

    @property
    def is_new(self) -> bool:
        """Whether nobody has begun it yet."""
        return "settings" not in self.study.user_attrs

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Begin, or go on with what was begun.

        Args:
            settings: what all cells share.

        Raises:
            UserError: it was begun with other settings.
        """
        ours = json.loads(json.dumps(settings))
        if self.is_new:
            self.study.set_user_attr("settings", ours)
        theirs = self.study.user_attrs["settings"]
        for setting in sorted(ours.keys() | theirs.keys()):
            if ours.get(setting) != theirs.get(setting):
                raise UserError(
                    f"this sweep was begun with {setting} {theirs.get(setting)}, not {ours.get(setting)}: name another "
                    f"--run_dir for another sweep, or remove what study {self.study.study_name!r} has left, in the "
                    "storage as well"
                )

    def trials(self, retry_failed: bool = False) -> list[FrozenTrial]:
        """What has become of the cells, in their order.

        Args:
            retry_failed: put those that failed into the queue again.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self.study)
        while True:
            latest = self._latest()
            added = False
            for cell in self.cells:
                trial = latest.get(cell.key)
                if trial is None or _is_given_back(trial) or (retry_failed and trial.state == TrialState.FAIL):
                    follows = None if trial is None else trial.number
                    run = cell.name if trial is None else cell_of(trial).name
                    self.study.enqueue_trial(cell.settings, user_attrs={"run": run, "follows": follows})
                    added = True
            if not added:
                return [latest[cell.key] for cell in self.cells]
            retry_failed = False

    def take(self) -> FrozenTrial | None:
        """A cell that nobody else has; None if there is none at the moment."""
        for trial in self.trials():
            if trial.state != TrialState.WAITING:
                continue
            self.storage.record_heartbeat(trial._trial_id)  # first: a trial without any would never count as silent
            try:
                if self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    worker = f"{socket.gethostname()}:{os.getpid()}"
                    self.storage.set_trial_user_attr(trial._trial_id, "worker", worker)
                    return trial
            except UpdateFinishedTrialError:
                continue  # somebody was very quick
        return None

    def beat(self, trial: FrozenTrial) -> None:
        """Give a sign of life.

        Raises:
            TakenOver: there was none for too long, and another worker has the cell.
        """
        try:
            self.storage.record_heartbeat(trial._trial_id)
            state = self.storage.get_trial(trial._trial_id).state
        except (OptunaError, SQLAlchemyError):
            return  # the storage is out of reach: one sign of life is less than the run
        if state != TrialState.RUNNING:
            raise TakenOver

    def finish(self, trial: FrozenTrial, score: float, seconds: float | None) -> None:
        """Record a run that has ended.

        Args:
            trial: whose.
            score: its value.
            seconds: how long it took, where it ran from start to end.

        Raises:
            TakenOver: another worker has the cell.
        """
        self._end(trial, TrialState.COMPLETE, [score], {} if seconds is None else {"seconds": seconds})

    def fail(self, trial: FrozenTrial, error: str) -> None:
        """Record a run that failed.

        Raises:
            TakenOver: another worker has the cell.
        """
        self._end(trial, TrialState.FAIL, None, {"error": error})

    def give_back(self, trial: FrozenTrial) -> None:
        """Let any worker go on with the run; if another has it already, so much the better."""
        with suppress(TakenOver):
            self._end(trial, TrialState.FAIL, None, {})

    def _latest(self) -> dict[str, FrozenTrial]:
        """The trial that counts of every cell, by its key."""
        first: dict[tuple[str, int | None], FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):  # in the order of their numbers
            if "follows" in trial.user_attrs:  # else it is not one of ours
                first.setdefault((cell_of(trial).key, trial.user_attrs["follows"]), trial)
        latest = {}
        for (key, follows), trial in first.items():
            if follows is None:
                while (key, trial.number) in first:
                    trial = first[key, trial.number]
                latest[key] = trial
        return latest

    def _end(
        self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None, attributes: Mapping[str, Any]
    ) -> None:
        try:
            for name, value in attributes.items():
                self.storage.set_trial_user_attr(trial._trial_id, name, value)
            self.storage.set_trial_state_values(trial._trial_id, state, values)
        except UpdateFinishedTrialError:
            raise TakenOver from None


def cell_of(trial: FrozenTrial) -> Cell:
    """The cell of a trial, under the name that it was first given."""
    return Cell(trial.system_attrs["fixed_params"], trial.user_attrs["run"])


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Whatever a database can have against us, in one line.

    Raises:
        UserError: in place of the errors of Optuna, SQLAlchemy and the driver.
    """
    try:
        yield
    except (OptunaError, SQLAlchemyError, ImportError) as error:
        cause = error.__cause__ or error
        reason = str(getattr(cause, "orig", None) or cause).splitlines()[0]
        raise UserError(
            f"--storage {hide_password(url)}: {reason}; it takes a URL such as sqlite:///FILE or "
            "postgresql+psycopg://USER@HOST/DATABASE, whose driver is installed, of a database that can be written"
        ) from error


def hide_password(url: str) -> str:
    """A URL that can be shown."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return url


def _is_given_back(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and "error" not in trial.user_attrs


def _open(url: str) -> RDBStorage:
    """The storage, its tables created where there are none.

    Optuna takes a trial by SELECT ... FOR UPDATE and UPDATE. SQLite has no such lock, and two workers may both succeed:
    so its transactions lock the file from their beginning on.
    """
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    engine = {"connect_args": {"timeout": LOCK_TIMEOUT}} if is_sqlite else {"pool_pre_ping": True}
    for attempt in range(10):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                storage = RDBStorage(url, engine, heartbeat_interval=HEARTBEAT, grace_period=SILENCE)
            break
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            at_once = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not at_once or attempt == 9:
                raise
            time.sleep(0.1)  # another worker is creating the same tables
        except RuntimeError as error:  # of another version of Optuna's
            raise OptunaError(" ".join(str(error).split())) from None
    if is_sqlite:
        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return storage
