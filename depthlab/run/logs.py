"""What a run has logged: its scalars, out of TensorBoard's files; and how it is taken back to an earlier state."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from depthlab.run.directory import RunDirectory


def log_sizes(run: RunDirectory) -> dict[str, int]:
    """The bytes of each file that a run only ever appends to, by its path in the run's directory."""
    return {str(file.relative_to(run.path)): file.stat().st_size for file in run.log_files()}


def cut_logs(run: RunDirectory, logs: Iterable[Path], sizes: Mapping[str, int]) -> None:
    """Take those files of a run back to these sizes, as `log_sizes` gives them, and away where there was none.

    What was logged after a state was saved is logged again by the run that goes on from it, and is there once then.
    """
    for file in logs:
        size = sizes.get(str(file.relative_to(run.path)))
        if size is None:
            file.unlink()
        elif size < file.stat().st_size:
            os.truncate(file, size)


def read_scalars(directory: Path) -> dict[str, pd.Series]:
    """All scalars of a run by tag, each over the optimiser steps; where a step was logged twice, the last counts."""
    # TensorBoard is for this only, and no other command is to wait for it.
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(directory), size_guidance={SCALARS: 0})  # 0: every one of them
    events.Reload()
    scalars = {}
    for tag in events.Tags()[SCALARS]:
        points = events.Scalars(tag)
        series = pd.Series([point.value for point in points], [point.step for point in points])
        scalars[tag] = series[~series.index.duplicated(keep="last")].sort_index()
    return scalars
