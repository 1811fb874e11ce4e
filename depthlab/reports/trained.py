"""What pre-training and other runs did: their sections of the page about runs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from depthlab.errors import UserError
from depthlab.kinds import TokenKind
from depthlab.reports.depth_curves import ALL, depth_curves
from depthlab.reports.document import Block, Table, dashed
from depthlab.reports.figures import embed
from depthlab.reports.fixed_point import READINGS, fixed_point_panels
from depthlab.reports.logs import read_scalars
from depthlab.reports.models import shorten
from depthlab.reports.pretraining import table_1
from depthlab.reports.runs import CONFIG, RESULTS, LeftOut

LANGUAGE_MODELS = ("pretraining", "retrofit")
"""Experiments that have kinds of tokens."""


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Attributes:
        name: As short as it can be.
        directory: The run's.
        config: Its settings.
        results: What `results.json` says.
    """

    name: str
    directory: Path
    config: dict[str, Any]
    results: dict[str, Any]

    @property
    def is_language_model(self) -> bool:
        return self.config["task"] in LANGUAGE_MODELS

    @property
    def task(self) -> str:
        """The experiment's kind, and of fine-tuning what was learnt."""
        kind, task = self.config["task"], self.results.get("task")
        return f"{kind}: {task}" if task else kind

    @property
    def model(self) -> dict[str, Any]:
        """Configuration of the exported model; empty where depthlab exports none, since its tokens have no depth."""
        file = self.directory / "model" / "config.json"
        return json.loads(file.read_text()) if file.is_file() else {}


def find_runs(paths: Sequence[str]) -> tuple[list[Run], list[LeftOut]]:
    """All runs at and under some paths, language models first.

    Raises:
        UserError: A path does not exist.
    """
    directories: dict[Path, Path] = {}  # what it really is: as it was named first
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path} does not exist; name run directories, folders that hold some, or tables")
        for file in path.rglob(CONFIG):
            directories.setdefault(file.parent.resolve(), file.parent)
    contents: dict[Path, tuple[dict[str, Any], dict[str, Any]]] = {}
    left_out = []
    for directory in sorted(directories.values()):
        try:
            contents[directory] = _read(directory)
        except UserError as error:
            left_out.append(LeftOut(directory, str(error)))
    names = shorten(map(str, contents))
    runs = [Run(names[str(path)], path, *content) for path, content in contents.items()]
    return sorted(runs, key=lambda run: not run.is_language_model), left_out


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    if not (directory / RESULTS).is_file():
        raise UserError(f"unfinished or failed: it has no {RESULTS}")
    try:
        config = yaml.safe_load((directory / CONFIG).read_text())
        results = json.loads((directory / RESULTS).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not isinstance(results, dict) or "task" not in config:
        raise UserError(f"its {CONFIG} or {RESULTS} is not what a run writes")
    return config, results


def trained_table(runs: Sequence[Run]) -> Table:
    """What each run was trained on, for how long, and how many applications of the layer it took.

    Raises:
        UserError: There are no runs.
    """
    if not runs:
        raise UserError("only tables of treebanks were named, no run")
    rows = []
    for run in runs:
        results, model = run.results, run.model
        tokens, seconds, iterations = (results.get(name) for name in ("tokens", "seconds", "token_iterations"))
        cap = model.get("num_hidden_layers")
        saved = 100 * (1 - iterations / (tokens * cap)) if tokens and iterations and cap else None
        rows.append(
            [
                run.name,
                run.task,
                _depth(model),
                Path(run.config["model"].get("checkpoint") or "-").name,
                _data(run),
                f"{results['steps']:,}",
                dashed(tokens and tokens / 1e6, ".2f"),
                dashed(seconds and seconds / 60),
                dashed(tokens and seconds and tokens / seconds, ",.0f"),
                dashed(iterations and iterations / 1e6, ".2f"),
                dashed(saved),
            ]
        )
    header = ["run", "task", "depth", "started from", "data", "steps", "tokens (M)", "minutes", "tokens/s"]
    caption = (
        "Tokens are those seen in training, padding not counted; minutes are of training alone. Token-iterations: "
        "applications of the layer to a token; saved: the share that is missing from those of the same tokens at the "
        "cap. Speeds can be compared where runs had the same machine to themselves."
    )
    return Table(caption, [*header, "token-iterations (M)", "saved (%)"], rows, left=5)


def _depth(model: dict[str, Any]) -> str:
    if not model:
        return "-"
    cap = model["num_hidden_layers"]
    return f"fixed, {cap}" if model["halting"] == "fixed" else f"cap {cap}, tau {model['time_penalty']:g}"


def _data(run: Run) -> str:
    data = run.results["data"]
    if not run.is_language_model:
        return ", ".join(f"{data[split]:,} {split}" for split in ("train", "dev", "test") if split in data)
    corpus = run.config["data"]["corpus"]
    sources = corpus if isinstance(corpus, list) else [corpus]
    names = (Path(source["path"] if isinstance(source, dict) else source).name for source in sources)
    return f"{', '.join(names)}: {data['documents']:,} documents, {data['tokens'] / 1e6:,.1f} M tokens"


def kinds_table(runs: Sequence[Run]) -> Table:
    language_models = {run.name: run.results for run in runs if run.is_language_model}
    if not language_models:
        raise UserError("none of the runs is one of pre-training or retrofit")
    return table_1(language_models)


def depth_figures(runs: Sequence[Run]) -> Iterator[Block]:
    language_models = [run for run in runs if run.is_language_model]
    drawn = 0
    for run in language_models:
        scalars = read_scalars(run.directory)
        if ALL in scalars and scalars[ALL].nunique() > 1:
            drawn += 1
            points = len(scalars[ALL])
            caption = (
                f"{run.name}: mean depth of the tokens of each kind in training. A point of a line is the mean over "
                f"{run.config['trainer']['log_every_n_steps']} steps, of about {run.results['tokens'] / points:,.0f} "
                "tokens of all kinds; tau is the weight of the ponder cost in the loss."
            )
            yield embed(depth_curves(scalars, run.name), caption, f"depth-{drawn}.png")
    if not drawn:
        raise UserError("none of the runs has logged depths of kinds of tokens that changed")


def fixed_point_figures(runs: Sequence[Run]) -> Iterator[Block]:
    drawn = 0
    for run in runs:
        scalars = read_scalars(run.directory)
        last = {tag: values.iloc[-1] for tag, values in scalars.items() if tag.startswith("fixed_point")}
        if last:
            drawn += 1
            tables = {name: _by_kind(last, name) for name in (*READINGS, "fixed_point_tokens")}
            tokens = tables.pop("fixed_point_tokens").nan_to_num()
            step = scalars["fixed_point/plain/1"].index[-1]
            caption = (
                f"{run.name}, at the validation of step {step:,}: mean cosine similarity of consecutive states by kind "
                "of token. Left as the authors have it, where a frozen token counts as 1; in the middle, tokens that "
                "still run; right, what the layer makes of its input."
            )
            yield embed(fixed_point_panels(tables, tokens), caption, f"fixed-point-{drawn}.png")
    if not drawn:
        raise UserError("none of the runs has logged it; put depthlab.callbacks.FixedPointMonitor into its callbacks")


def _by_kind(scalars: dict[str, float], name: str) -> torch.Tensor:
    """[kinds, L], nan where nothing was logged."""
    cap = max(int(tag.rpartition("/")[2]) for tag in scalars)
    tags = [[f"{name}/{kind.name.lower()}/{n}" for n in range(1, cap + 1)] for kind in TokenKind]
    return torch.tensor([[scalars.get(tag, float("nan")) for tag in row] for row in tags])
