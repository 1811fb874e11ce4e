"""What pre-training and other runs did: their sections of the page about runs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os.path import abspath
from pathlib import Path

import pandas as pd
import torch

from depthlab.analysis.names import shorten
from depthlab.analysis.survey import LeftOut
from depthlab.data.corpora.corpus import as_sources
from depthlab.errors import UserError
from depthlab.kinds import TokenKind
from depthlab.models.halting import describe
from depthlab.render.depth_curves import ALL, depth_curves
from depthlab.render.document import Block, Short, Table, dashed
from depthlab.render.figures import embed
from depthlab.render.fixed_point import READINGS, fixed_point_panels
from depthlab.reports.pretraining import by_source, table_1
from depthlab.run.directory import FinishedRun, hold
from depthlab.run.logs import read_scalars

LANGUAGE_MODELS = ("pretraining", "retrofit")
"""Experiments that have kinds of tokens."""


@dataclass(frozen=True)
class Run(FinishedRun):
    """A run that has ended, and what to call it, as short as it can be."""

    name: str

    @property
    def is_language_model(self) -> bool:
        """Whether its tokens have kinds."""
        return self.config["task"] in LANGUAGE_MODELS

    @property
    def task(self) -> str:
        """The experiment's kind, and of fine-tuning what was learnt."""
        kind, task = self.config["task"], self.results.get("task")
        return f"{kind}: {task}" if task else kind


def name_runs(finished: Sequence[FinishedRun]) -> tuple[list[Run], list[LeftOut]]:
    """Runs with names, language models first; and those whose corpus is not known."""
    names = shorten(abspath(run.directory.path) for run in finished)  # of "." too
    runs, left_out = [], []
    for one in finished:
        run = Run(**vars(one), name=names[abspath(one.directory.path)])
        try:
            if run.is_language_model:
                hold(run.config["data"], {"corpus": object}, run.directory.config.name)
                hold(run.results["data"], {"documents": int, "tokens": int}, run.directory.results.name)
                as_sources(run.config["data"]["corpus"])
        except UserError as error:
            left_out.append(LeftOut(run.directory.path, str(error)))
        else:
            runs.append(run)
    return sorted(runs, key=lambda run: not run.is_language_model), left_out


def trained_table(runs: Sequence[Run]) -> Table:
    """What each run was trained on, for how long, and how many applications of the layer it took.

    Raises:
        UserError: There are no runs.
    """
    if not runs:
        raise UserError("only tables of treebanks were named, no run")
    header = ["run", "task", "depth", "started from", "data", "steps", "tokens (M)", "minutes", "tokens/s"]
    caption = (
        "All is of the whole training, even where an earlier state was the best. Tokens are those seen, padding not "
        "counted; minutes are of training alone. Token-iterations: applications of the layer to a token; saved: the "
        "share that is missing from those of the same tokens at the cap. Speeds can be compared where runs had the "
        "same machine to themselves."
    )
    return Table(caption, [*header, "token-iterations (M)", "saved (%)"], list(map(_row, runs)), left=5)


def _row(run: Run) -> list[str]:
    results, model = run.results, run.model
    epochs = results.get("epochs")  # where the best state is kept, `steps` are its
    tokens, seconds, iterations = results["tokens"], results["seconds"], results.get("token_iterations")
    cap = model.get("num_hidden_layers")
    checkpoint = run.config["model"].get("checkpoint")
    return [
        Short(run.name, str(run.directory.path)),
        run.task,
        describe(model) if model else "-",
        shorten([checkpoint])[checkpoint] if checkpoint else "-",
        _data(run),
        f"{epochs[-1]['step'] if epochs else results['steps']:,}",
        f"{tokens / 1e6:.2f}",
        f"{seconds / 60:.1f}",
        dashed(tokens / seconds if seconds else None, ",.0f"),
        dashed(iterations and iterations / 1e6, ".2f"),
        dashed(100 * (1 - iterations / (tokens * cap)) if tokens and iterations and cap else None),
    ]


def _data(run: Run) -> str:
    data = run.results["data"]
    if not run.is_language_model:
        counts = {name.replace("_", " "): count for name, count in data.items() if isinstance(count, int)}
        return ", ".join(f"{count:,} {name}" for name, count in counts.items())
    names = (Path(source.path).name or source.path for source in as_sources(run.config["data"]["corpus"]))
    return f"{', '.join(names)}: {data['documents']:,} documents, {data['tokens'] / 1e6:,.1f} M tokens"


def kinds_tables(runs: Sequence[Run]) -> list[Block]:
    """The paper's Table 1 of all language models, and what each has measured by source.

    Raises:
        UserError: There is none.
    """
    language_models = {run.name: run.results for run in runs if run.is_language_model}
    if not language_models:
        raise UserError("none of the runs is one of pre-training or retrofit")
    tables = {name: by_source(results) for name, results in language_models.items()}
    named = {name: replace(table, caption=f"{name}. {table.caption}") for name, table in tables.items() if table}
    return [table_1(language_models), *named.values()]


def depth_figures(runs: Sequence[Run]) -> Iterator[Block]:
    """The depth of each kind of token while each language model was trained; none of those whose depth never changed.

    Raises:
        UserError: There is none to draw.
    """
    logged = [(run, read_scalars(run.directory.path)) for run in runs if run.is_language_model]
    changing = [(run, scalars) for run, scalars in logged if ALL in scalars and scalars[ALL].nunique() > 1]
    if not changing:
        raise UserError("none of the runs has logged depths of kinds of tokens that changed")
    for number, (run, scalars) in enumerate(changing, start=1):
        steps = run.config["trainer"]["log_every_n_steps"]
        caption = (
            f"{run.name}: mean depth of the tokens of each kind in training. A point of a line is the mean over "
            f"{steps} steps, of about {run.results['tokens'] / run.results['steps'] * steps:,.0f} tokens of all "
            "kinds; tau is the weight of the ponder cost in the loss."
        )
        yield embed(depth_curves(scalars, run.name), caption, f"depth-{number}.png")


def fixed_point_figures(runs: Sequence[Run]) -> Iterator[Block]:
    """The paper's figure, in its three readings, of each run that has logged it, at its last validation.

    Raises:
        UserError: None has.
    """
    logged = [run for run in runs if run.directory.fixed_point.is_file()]
    if not logged:
        raise UserError("none of the runs has logged it; put depthlab.callbacks.FixedPointMonitor into its callbacks")
    for number, run in enumerate(logged, start=1):
        readings = pd.read_csv(run.directory.fixed_point)
        step = readings["step"].max()
        last = readings[readings["step"] == step].drop_duplicates(["kind", "n"], keep="last")
        tables = {name: _by_kind(last, name) for name in READINGS}
        tokens = _by_kind(last, "fixed_point_tokens").nan_to_num()
        caption = (
            f"{run.name}, at the validation of step {step:,}: mean cosine similarity of consecutive states by kind "
            "of token. Left as the authors have it, where a frozen token counts as 1; in the middle, tokens that "
            "still run; right, what the layer makes of its input."
        )
        yield embed(fixed_point_panels(tables, tokens), caption, f"fixed-point-{number}.png")


def _by_kind(readings: pd.DataFrame, name: str) -> torch.Tensor:
    """[kinds, L], nan where there was no token."""
    table = readings.pivot(index="kind", columns="n", values=name)
    return torch.tensor(table.reindex([kind.name.lower() for kind in TokenKind]).to_numpy(float))
