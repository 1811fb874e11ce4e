"""What the GLUE server wants: the predictions of a model for all test sets, checked, in one zip file."""

import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from depthlab.analysis.choice import choose, epochs_table
from depthlab.analysis.names import name_models, natural_order, tell_apart
from depthlab.analysis.records import RunRecord, read_records
from depthlab.analysis.survey import survey
from depthlab.callbacks.predictions import PARTIAL
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS, HIGHEST_SCORE, GlueTask, Submission
from depthlab.errors import UserError
from depthlab.files import check_new, make_writable, writing
from depthlab.reports.glue import summarize
from depthlab.run.directory import RunDirectory, best_epoch

HEADER = "index\tprediction"


def submission(runs: list[str], to: str = "submission.zip", model: str | None = None) -> None:
    """Make the zip file for the GLUE server: for every task the best run that `depthlab report glue` has chosen.

    A run's test splits are predicted by its best state, unless it has predictions of that state already.

    Args:
        runs: Run directories of `depthlab fit`, or folders that hold such at any depth. The nine tasks must be there.
        to: The file to write; it must not exist yet.
        model: Whose runs to take, by its name in the report, if there are several.

    Raises:
        UserError: The file exists or can't be written; a task has no run; there are several models and none of them is
            named; a prediction fails, or is not what the server takes.
    """
    target = Path(to)
    check_new("--to", target)
    make_writable("--to into", target.parent)  # rather now than after hours of predicting
    records, left_out = read_records(survey(runs), "glue")
    chosen = choose_runs(records, model)
    for other in left_out:
        print(f"left out: {other.path}: {other.reason}")
    files = []
    for name, (run, row) in chosen.items():
        print(f"{GLUE_TASKS[name].folder:6} {row.score_best:5.1f} on dev  {run.directory}{_other_state(run, row)}")
    for name, (run, _) in chosen.items():
        task, directory = GLUE_TASKS[name], run.directory
        if not _are_fresh(task, directory):
            predict(directory)
        files += _predictions(task, directory)
        check_predictions(task, directory)
    write_zip(target, files)
    print(f"ready: {target}, {len(files)} files; upload it at gluebenchmark.com/submit")


def choose_runs(records: list[RunRecord], model: str | None = None) -> dict[str, tuple[RunRecord, pd.Series]]:
    """For every task the best seed's run of the chosen configuration, and its row in the summary.

    Args:
        records: All runs.
        model: Whose to take, by name.

    Raises:
        UserError: There are several models and none is named, or none of that name; a task has no run.
    """
    names = name_models(tell_apart(records))
    known = sorted(set(names), key=natural_order)
    if model is None and len(known) > 1:
        raise UserError(f"there are {len(known)} models: choose one with --model, {_quoted(known)}")
    if model is not None and model not in known:
        raise UserError(f"--model {model!r}: there is no such model, only {_quoted(known)}")
    summary = summarize(choose(epochs_table(records, names)))
    summary = summary[summary.model == (model or known[0])].set_index("task")
    missing = [task for task in GLUE_TASKS if task not in summary.index]
    if missing:
        raise UserError(
            f"no finished run of {', '.join(missing)}, and the GLUE server takes all tasks or nothing: train it with "
            f"`depthlab fit --config experiments/glue.yaml --data.task {missing[0]} --run_dir DIR` and the model's own "
            "settings, and name its directory too"
        )
    by_directory = {str(record.directory): record for record in records}
    return {task: (by_directory[summary.best_run[task]], summary.loc[task]) for task in GLUE_TASKS}


def predict(directory: Path) -> None:
    """Have a run predict its test splits, in a process of its own, which must not fail."""
    command = ["depthlab", "predict", "--config", str(RunDirectory(directory).config), "--run_dir", str(directory)]
    print(f"\n{shlex.join(command)}", flush=True)
    if subprocess.run([sys.executable, "-m", *command]).returncode:
        raise UserError(
            f"{directory}: no predictions; mend what is said above, such as by `{shlex.join(command)} --data.root "
            "FOLDER` with another folder of GLUE's files, and start again"
        )


def check_predictions(task: GlueTask, directory: Path) -> None:
    """Hold the files of a run's predictions against what the GLUE server takes.

    Raises:
        UserError: A file is missing or has a fault; names file and line.
    """
    run = RunDirectory(directory)
    for split, wanted in task.submissions.items():
        file = run.predictions / wanted.file
        if not file.is_file():
            raise UserError(
                f"{file} is missing: data.root of the run has no {split} of {task.folder}; fetch it, then `depthlab "
                f"predict --config {run.config} --run_dir {directory}`"
            )
        if fault := next(_faults(task, wanted, file), None):
            raise UserError(
                f"{file}, {fault}; remove it, see that data.root has all of GLUE's {split}, and start again"
            )


def write_zip(target: Path, files: list[Path]) -> None:
    """Put files into a zip file, which appears only when it is complete."""
    with writing("--to", target) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)


def _faults(task: GlueTask, wanted: Submission, file: Path) -> Iterator[str]:
    lines = file.read_text(errors="replace").split("\n")
    if lines.pop() != "":
        yield f"line {len(lines) + 1}: it breaks off"
    if lines[:1] and lines[0].startswith(PARTIAL):
        yield f"line 1: it is not whole ({lines[0].removeprefix('# ')}): predict without trainer.limit_predict_batches"
    if lines[:1] != [HEADER]:
        yield f"line 1: the header must be {HEADER!r}"
    for number, line in enumerate(lines[1:]):
        index, _, prediction = line.partition("\t")
        if index != str(number):
            yield f"line {number + 2}: the index is {index!r}, not {number}"
        if not _is_answer(task, prediction):
            number_allowed = f"a number from 0 to {HIGHEST_SCORE:g}"
            allowed = number_allowed if task.is_regression else f"one of {', '.join(task.labels)}"
            yield f"line {number + 2}: the prediction is {prediction!r}, not {allowed}"
    if len(lines) - 1 != wanted.rows:
        yield f"line {len(lines)}: it ends after {len(lines) - 1} predictions, where GLUE has {wanted.rows} examples"


def _is_answer(task: GlueTask, prediction: str) -> bool:
    if not task.is_regression:
        return prediction in task.labels
    try:
        return 0 <= float(prediction) <= HIGHEST_SCORE
    except ValueError:
        return False


def _are_fresh(task: GlueTask, directory: Path) -> bool:
    """Whether all predictions are there, and of the best state there is."""
    state, files = RunDirectory(directory).best, _predictions(task, directory)
    return all(
        f.is_file()
        and (not state.is_file() or f.stat().st_mtime >= state.stat().st_mtime)
        and not f.read_bytes().startswith(PARTIAL.encode())
        for f in files
    )


def _predictions(task: GlueTask, directory: Path) -> list[Path]:
    return [RunDirectory(directory).predictions / wanted.file for wanted in task.submissions.values()]


def _other_state(record: RunRecord, row: pd.Series) -> str:
    """What to know where the state that a run keeps, its best, is not of the number of epochs that was chosen."""
    best = best_epoch(record.epochs, "val/score")
    if best["epoch"] == row.epoch:
        return ""
    return f", by its best state: {100 * best['val/score']:.1f} after {best['epoch']} epochs, not {row.epoch:g}"


def _quoted(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)
