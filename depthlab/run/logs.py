"""What a run has logged: its scalars, out of TensorBoard's files."""

from pathlib import Path

import pandas as pd


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
