"""What can happen to a run, and whether it survives it: a function a fault, which says how a try of it went."""

import hashlib
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.processes import Process
from tests.chaos.runs import KINDS, Comparison, Run, compare

PLACES = ("start", "step", "validation", "saving")


@dataclass
class Outcome:
    """How a try went."""

    place: str
    wrong: list[str] = field(default_factory=list)  # what it should not have done; nothing where it survived
    comparison: Comparison | None = None  # None where nothing goes on

    @property
    def unhurt(self) -> bool:
        """Whether all is as it should be."""
        return not self.wrong and (self.comparison is None or not self.comparison.differences)


@dataclass
class Stage:
    """Where faults happen: data, a folder to fill, and of each kind a run that was left alone."""

    data: Path
    folder: Path
    draw: Random
    tries: int = 0

    def reference(self, kind: str) -> Run:
        run = Run(kind, self.data, self.folder / f"reference-{kind}")
        if not run.directory.results.exists():
            process = run.start()
            assert process.wait() == 0, process.output
        return run

    def run(self, kind: str | None = None, workers: int | None = None) -> Run:
        self.tries += 1
        kind = kind or self.draw.choice(KINDS)
        workers = self.draw.choice((0, 0, 1)) if workers is None else workers
        return Run(kind, self.data, self.folder / f"{self.tries}-{kind}", workers)

    def hit(self, run: Run, place: str | None = None, *more: str, **settings: Any) -> tuple[Process, str]:
        """Start a run, and stop it at a place, or a random moment later; where it is then."""
        place = place or self.draw.choice(PLACES)
        process = run.start(*more, stop_at=f"{place} {self.draw.randint(1, {'step': 12}.get(place, 3))}", **settings)
        if place == "start":
            time.sleep(self.draw.uniform(0, 2))
        elif process.has_stopped() and self.draw.random() < 0.7:
            process.kill(signal.SIGCONT)
            time.sleep(self.draw.expovariate(1 / 0.02))
        return process, process.place

    def conclude(self, place: str, run: Run, wrong: list[str]) -> Outcome:
        """Let the run go on to its end, and compare it."""
        if not run.directory.was_begun():  # it was hit before it had made its directory: the command is given again
            process = run.start()
            process.wait()
        else:
            process = run.finish()
        return self.judge(place, run, process, wrong)

    def judge(self, place: str, run: Run, process: Process, wrong: list[str]) -> Outcome:
        """Compare what has come to its end."""
        if process.status != 0:
            return Outcome(place, [*wrong, f"went on to status {process.status}: {process.output[-500:]}"])
        left = [str(path) for path in run.directory.path.rglob(".*.unfinished-*")]
        comparison = compare(run, self.reference(run.kind))
        shutil.rmtree(run.folder)
        return Outcome(place, wrong + left, comparison)


def killed(stage: Stage, times: int = 1) -> Outcome:
    """`kill -9`, of the whole group, at a random place."""
    run = stage.run()
    place = "several"
    for number in range(times):
        process, hit = stage.hit(run, None, *(["--ckpt_path=last"] if number and run.directory.was_begun() else []))
        place = hit if times == 1 else place
        process.kill(signal.SIGKILL, group=True)
        process.wait()
    return stage.conclude(place, run, [])


def killed_twice(stage: Stage) -> Outcome:
    """`kill -9`, and again when it goes on."""
    return killed(stage, times=2)


def killed_with_tmpdir_elsewhere(stage: Stage) -> Outcome:
    """`kill -9` while it saves, `$TMPDIR` being on another file system."""
    run = stage.run(stage.draw.choice(("pretraining", "glue")))
    process, _ = stage.hit(run, "saving", before=lambda: os.environ.update(TMPDIR="/dev/shm"))
    process.kill(signal.SIGKILL, group=True)
    process.wait()
    return stage.conclude("saving", run, [])


def signalled(stage: Stage) -> Outcome:
    """SIGINT, SIGTERM, SIGHUP or SIGUSR1, to the process or its whole group: status 130, no traceback."""
    number = stage.draw.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1))
    group = stage.draw.random() < 0.5
    run = stage.run(workers=1)
    process, place = stage.hit(run, stage.draw.choice(PLACES[1:]))
    process.kill(number, group=group)
    if process.wait() not in (0, 130):  # 0: it was through
        return Outcome(place, [f"{number.name}: status {process.status}: {process.output[-500:]}"])
    wrong = [f"{number.name}: {line}" for line in process.errors()]
    if process.status == 0:
        return stage.judge(place, run, process, wrong)
    if not run.directory.last.exists():
        wrong.append(f"{number.name}: nothing saved")
    return stage.conclude(place, run, wrong)


def _told(process: Process, *words: str) -> list[str]:
    """What is wrong with how a command has ended that had to: with status 2, and one line that has these words."""
    errors = process.errors()
    if process.status == 2 and len(errors) == 1 and all(word in errors[0] for word in words):
        return []
    return [f"status {process.status}, said {errors or process.output[-500:]}"]


def full_disk(stage: Stage) -> Outcome:
    """From a random moment on files can't grow beyond what the messages need: one line, and what was saved stands."""
    run = stage.run()
    process, place = stage.hit(run, stage.draw.choice(PLACES[1:]))
    if not process.ended():
        size = stage.draw.randint(10_000, 60_000)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    process.wait()
    wrong = [] if process.status == 0 else _told(process, "File too large")
    return stage.conclude(place, run, wrong)


def worker_killed(stage: Stage) -> Outcome:
    """`kill -9` of a process that makes batches: it is named, in one line."""
    run = stage.run(workers=1)
    process, _ = stage.hit(run, "step")
    children = process.children()
    if children:
        os.kill(children[0], signal.SIGKILL)
    process.wait()
    wrong = _told(process, "made batches", str(children[0])) if children and process.status else []
    return stage.conclude("worker", run, wrong)


def nan(stage: Stage) -> Outcome:
    """A weight becomes NaN: status 1, one line that names the step; what was saved before is good, and goes on."""
    run = stage.run(stage.draw.choice(("pretraining", "accumulated", "glue")))
    step = stage.draw.randint(2, 10)
    pieces = 2 if run.kind == "accumulated" else 1
    process = run.start(stop_at=f"step {(step - 1) * pieces + 1} nan")
    errors = process.errors() if process.wait() == 1 else []
    told = len(errors) == 1 and f"error: step {step:,}: " in errors[0]
    wrong = [] if told and not run.directory.model.exists() else [f"status {process.status}: {process.output[-500:]}"]
    return stage.conclude("weight", run, wrong)


def directory_removed(stage: Stage) -> Outcome:
    """The run directory vanishes: one line."""
    run = stage.run()
    process, place = stage.hit(run, "step")
    run.directory.path.rename(run.folder / "gone")
    process.wait()
    wrong = [] if process.status == 0 else _told(process, "run")
    return Outcome(place, wrong)


def damaged(stage: Stage) -> Outcome:
    """One bit of last.ckpt flips, or it is cut short, or empty: it is told, and the one before goes on."""
    run = stage.run()
    process = run.start(stop_at="saving 4")
    process.has_stopped()
    process.kill(signal.SIGKILL, group=True)
    process.wait()
    last, draw = run.directory.last, stage.draw
    content = bytearray(last.read_bytes())
    how = draw.choice(("a bit", "cut short", "empty"))
    if how == "a bit":
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    else:
        del content[draw.randrange(len(content)) if how == "cut short" else 0 :]
    last.write_bytes(content)
    process = run.finish()
    told = f"{last} is damaged" in process.output and "taking previous.ckpt" in process.output
    return stage.judge(how, run, process, [] if told else [f"{how} was not told: {process.output[:500]}"])


def best_damaged(stage: Stage) -> Outcome:
    """One bit of best.ckpt flips: `depthlab validate` tells, and takes the last."""
    run = stage.run("glue", workers=0)
    process = run.start()
    process.wait()
    best = run.directory.best
    content = bytearray(best.read_bytes())
    content[stage.draw.randrange(len(content))] ^= 1 << stage.draw.randrange(8)
    best.write_bytes(content)
    process = Process(run.command(name="validate"), run.folder)
    process.wait()
    told = process.status == 0 and f"{best} is damaged" in process.output and "taking last.ckpt" in process.output
    shutil.rmtree(run.folder)
    return Outcome("best.ckpt", [] if told else [process.output[-500:]])


def lives(pid: int) -> bool:
    """Whether a process is at work, and no mere entry that its new parent has not read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _prepared(cache: Path) -> dict[str, str]:
    """What a cache holds, by name: digests of files; those that only say when and how long are left out."""
    return {
        str(file.relative_to(cache)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in cache.rglob("*")
        if (file.is_file() and file.suffix in (".arrow", ".model", ".txt")) or file.name == "tokenizer.json"
    }


def _prepare(stage: Stage, folder: Path) -> Process:
    command = Run("pretraining", stage.data, folder).command(f"--data.cache_dir={folder}/cache", name="prepare")
    return Process([*command, "--data.prepare_workers=2"], folder)


def prepare_killed(stage: Stage) -> Outcome:
    """`kill -9` of `prepare` alone: its helpers die with it, and the next one clears up and makes the same."""
    stage.reference("pretraining")  # which has prepared the same
    stage.tries += 1
    folder = stage.folder / f"{stage.tries}-prepare"
    process = _prepare(stage, folder)
    while not process.ended() and not (folder / "cache/.lock").exists():
        time.sleep(0.01)
    time.sleep(stage.draw.uniform(0, 3))
    helpers = process.children()
    process.kill(signal.SIGKILL)
    process.wait()
    for _ in range(100):  # the system takes its time over so much memory
        time.sleep(0.1 * any(map(lives, helpers)))
    wrong = [f"orphan {pid}" for pid in helpers if lives(pid)]
    process = _prepare(stage, folder)
    wrong += [] if process.wait() == 0 else [process.output[-500:]]
    wrong += [f"left {path.name}" for path in (folder / "cache").glob("preparing-*")]
    if _prepared(folder / "cache") != {
        name: of for name, of in _prepared(stage.data / "cache").items() if name in _prepared(folder / "cache")
    }:
        wrong.append("prepared other data")
    shutil.rmtree(folder)
    return Outcome("prepare", wrong)


def prepared_by_two(stage: Stage) -> Outcome:
    """Two `prepare` on one cache: both end well, one having waited for the other."""
    stage.tries += 1
    folder = stage.folder / f"{stage.tries}-two"
    processes = [_prepare(stage, folder) for _ in range(2)]
    wrong = [process.output[-500:] for process in processes if process.wait() != 0]
    wrong += [f"left {path.name}" for path in (folder / "cache").glob("preparing-*")]
    shutil.rmtree(folder)
    return Outcome("prepare", wrong)


FAULTS: dict[str, Callable[[Stage], Outcome]] = {
    "kill -9": killed,
    "kill -9, twice": killed_twice,
    "kill -9, TMPDIR elsewhere": killed_with_tmpdir_elsewhere,
    "a signal": signalled,
    "kill -9 of a worker": worker_killed,
    "full disk": full_disk,
    "NaN": nan,
    "run directory gone": directory_removed,
    "damaged last.ckpt": damaged,
    "damaged best.ckpt": best_damaged,
    "kill -9 of prepare": prepare_killed,
    "two prepare at once": prepared_by_two,
}
