"""How deep each kind of token went while a run trained."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from depthlab.render.figures import no_formula, plain
from depthlab.render.fixed_point import STYLES

ALL = "train/depth/all"


def depth_curves(scalars: Mapping[str, pd.Series], title: str) -> Figure:
    """Mean depth of each kind of token against the optimiser step, and tau where it is not 0.

    Of a run's scalars, as :func:`depthlab.run.logs.read_scalars` has them.
    """
    figure = Figure(figsize=(9, 4.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for kind, (colour, marker) in STYLES.items():
        curve = scalars.get(f"train/depth/{kind.name.lower()}")
        if curve is not None:
            axes.plot(curve, color=colour, marker=marker, markevery=0.1, label=kind.name.lower())
    axes.plot(scalars[ALL], color="#000000", linestyle=":", linewidth=2, label="all")
    axes.set(xlabel="optimiser step", ylabel="mean depth (iterations per token)", title=no_formula(title))
    axes.set_ylim(bottom=0)
    plain(axes)
    lines, names = axes.get_legend_handles_labels()
    tau = scalars.get("train/time_penalty")
    if tau is not None and tau.any():
        beside = axes.twinx()
        lines += beside.plot(tau, color="#7f7f7f", linestyle="--", linewidth=1)
        names.append("tau (right)")
        beside.set_ylabel("tau (weight of the ponder cost)")
        beside.set_ylim(bottom=0)
        beside.spines[["top"]].set_visible(False)
    figure.legend(lines, names, loc="outside lower left", ncols=4, frameon=False)
    return figure
