"""How throughput and latency go with the number of sentences in a batch."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from depthlab.analysis.speed import ENGINES, Speed
from depthlab.render.figures import COLOURS, MARKERS, plain


def speed_curves(speeds: Sequence[Speed]) -> Figure:
    """A row of panels a dtype: sentences per second, and milliseconds a batch, against the batch size."""
    dtypes = list(dict.fromkeys(speed.dtype for speed in speeds))
    figure = Figure(figsize=(9, 3.2 * len(dtypes) + 0.6), dpi=100, layout="constrained")
    panels = figure.subplots(len(dtypes), 2, squeeze=False)
    for dtype, (rate, latency) in zip(dtypes, panels, strict=True):
        for engine, colour, marker in zip(ENGINES, COLOURS, MARKERS, strict=False):
            own = [speed for speed in speeds if (speed.dtype, speed.engine) == (dtype, engine)]
            sizes, style = [speed.batch for speed in own], {"color": colour, "marker": marker}
            if own:
                rate.plot(sizes, [speed.sentences for speed in own], label=engine, **style)
                latency.plot(sizes, [speed.p50 for speed in own], **style)
                latency.fill_between(
                    sizes, [s.p50 for s in own], [s.p95 for s in own], color=colour, alpha=0.15, linewidth=0
                )
        rate.set(title=dtype, ylabel="sentences per second")
        latency.set(title=dtype, ylabel="ms per batch, p50 to p95", yscale="log")
        rate.set_ylim(bottom=0)
        sizes = sorted({speed.batch for speed in speeds})
        for axes in (rate, latency):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, map(str, sizes))
            axes.set_xlabel("sentences in a batch")
            plain(axes)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower left", ncols=4, frameon=False)
    return figure
