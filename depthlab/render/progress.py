"""How far a run is, in words."""

from collections.abc import Mapping
from itertools import pairwise

from depthlab.kinds import POOLS
from depthlab.run.progress import Progress

SCORES = ("score", "accuracy", "f1", "matthews_corrcoef", "pearson", "spearman", "skipped_steps")
"""Measures of a stage that are told beside losses, accuracies and depths."""
UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def line(progress: Progress) -> str:
    """All of it that is for a log, in one line."""
    measured = progress.measured
    parts = [*values(measured, "train"), *throughput(measured)]
    if progress.validated == progress.step:
        parts += [f"validation: {', '.join(values(measured, 'val'))}"]
    return f"{how_far(progress)}: {', '.join(parts)}" if parts else how_far(progress)


def how_far(progress: Progress) -> str:
    """Step, share and time left."""
    text = f"step {progress.step:,}"
    if progress.steps:
        text += f" of {progress.steps:,} ({progress.step / progress.steps:.0%})"
    return text if progress.seconds_left is None else f"{text}, about {duration(progress.seconds_left)} left"


def values(measured: Mapping[str, float], stage: str) -> list[str]:
    """Loss, scores and mean depths of a stage, "train" or "val", of values by tag; each with its parts."""
    named = {tag.removeprefix(f"{stage}/"): value for tag, value in measured.items() if tag.startswith(f"{stage}/")}
    depths = {name: named[f"depth/{name}"] for name, pool in POOLS.items() if f"depth/{name}" in named if _one(pool)}
    losses = {name.removeprefix("loss/"): value for name, value in named.items() if name.startswith("loss/")}
    texts = [_with_parts("loss", losses, "total", ".4g")] if "total" in losses else []
    texts += [f"{name.replace('_', ' ')} {named[name]:.4g}" for name in SCORES if name in named]
    accuracies = {name: named[f"accuracy/{name}"] for name in ("mlm", "sop") if f"accuracy/{name}" in named}
    texts += [f"{name} accuracy {value:.1%}" for name, value in accuracies.items()]
    return texts + ([_with_parts("depth", depths, "all", ".2f")] if "all" in depths else [])


def throughput(measured: Mapping[str, float]) -> list[str]:
    """What is done in a second."""
    rates = {name: measured.get(f"throughput/{name}_per_second") for name in ("tokens", "token_iterations", "steps")}
    known = {name.replace("_", "-"): rate for name, rate in rates.items() if rate is not None}
    return [f"{rate:,.0f} {name}/s" if rate >= 100 else f"{rate:.3g} {name}/s" for name, rate in known.items()]


def duration(seconds: float) -> str:
    """In the largest unit that fits, and the one below."""
    for (unit, size), (smaller, part) in pairwise(UNITS):
        if seconds >= size:
            rest = f" {int(seconds % size // part)} {smaller}" if size > 60 else ""
            return f"{int(seconds // size)} {unit}{rest}"
    return f"{max(seconds, 0):.0f} s"


def _one(pool: tuple[int, ...]) -> bool:
    """Whether it is all tokens, or of one kind: not one of the authors' two."""
    return len(pool) == 1 or pool == POOLS["all"]


def _with_parts(name: str, parts: Mapping[str, float], whole: str, form: str) -> str:
    rest = ", ".join(f"{part} {value:{form}}" for part, value in parts.items() if part != whole)
    return f"{name} {parts[whole]:{form}}" + (f" ({rest})" if rest else "")
