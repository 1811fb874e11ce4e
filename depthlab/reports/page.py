"""The command `depthlab report RUN ...`: all there is to say about some runs, on one page."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.utils import logging

from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.inspection import Inspector
from depthlab.kinds import TokenKind
from depthlab.models import AdaptiveAlbertForMaskedLM, AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import find_tokenizer, load_as_saved
from depthlab.reports.depth_curves import ALL, depth_curves
from depthlab.reports.document import Block, Document, Figure, Heading, Table, dashed
from depthlab.reports.figures import embed
from depthlab.reports.fixed_point import READINGS, fixed_point_panels
from depthlab.reports.glue import glue_blocks
from depthlab.reports.logs import read_scalars
from depthlab.reports.models import short_names
from depthlab.reports.pretraining import table_1
from depthlab.reports.probing import probing_blocks
from depthlab.reports.publish import publish
from depthlab.reports.runs import CONFIG, RESULTS, LeftOut, read_runs
from depthlab.reports.sentences import sentence
from depthlab.reports.tokens import read_tokens
from depthlab.reports.treebank import treebank_blocks

SENTENCES = (
    "The crows [MASK] above me, and nobody in the village could say why.",
    "She had never [MASK] the letters that her brother wrote from the war.",
    "The results of the experiment, which took three years, were unbelievably [MASK].",
    "In 1851 the company built a railway from London to [MASK].",
)
"""For a model without a language modelling head, [MASK] is left out."""
MOST_MODELS = 6
"""Whose sentences are shown: one of each task, as far as it goes."""
LANGUAGE_MODELS = ("pretraining", "retrofit")


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


def page(runs: list[str], to: str = "checkpoints/runs/report") -> None:
    """One page about runs: what was trained, depths, fixed point, GLUE, probing, which words, sample sentences.

    What there is nothing for is left out, with a note that says what would fill it.

    Args:
        runs: Run directories of `depthlab fit`, folders that hold such at any depth, and tables of a treebank
            (`depthlab predict --dump FILE.parquet`), which may lie in those folders.
        to: Folder for the report: `page.html`, `page.md` and its figures. An earlier one there is replaced.

    Raises:
        UserError: There is no run, or the report can't be written.
    """
    trained, left_out = find_runs(runs)
    folders = [path for path in runs if Path(path).is_dir()]
    files: dict[str, str | bytes] = {}

    def which_words() -> Sequence[Block]:
        blocks, others = treebank_blocks(read_tokens(find_tables(runs)))
        files.update(others)
        return blocks

    sections: dict[str, Callable[[], Sequence[Block]]] = {
        "What was trained": lambda: [trained_table(trained)],
        "Depth by kind of token": lambda: [_table_1(trained)],
        "Depth while training": lambda: list(_curves(trained)),
        "Fixed point": lambda: list(_fixed_points(trained)),
        "GLUE": lambda: glue_blocks(read_runs(folders, "glue")[0])[0],
        "Probing": lambda: probing_blocks(read_runs(folders, "probing")[0]),
        "Which words": which_words,
        "Sentences": lambda: list(_sentences(trained)),
    }
    blocks = [block for title, make in sections.items() for block in _section(title, make)]
    files |= {block.file: block.png for block in blocks if isinstance(block, Figure)}
    publish("page", to, Document("Adaptive depth: what the runs show", blocks), left_out, files)


def _section(title: str, make: Callable[[], Sequence[Block]]) -> Iterator[Block]:
    yield Heading(title)
    try:
        blocks = make()
    except UserError as error:
        blocks = [f"Left out: {error}."]
    yield from (replace(block, level=3) if isinstance(block, Heading) else block for block in blocks)


def find_runs(paths: Sequence[str]) -> tuple[list[Run], list[LeftOut]]:
    """All runs at and under some paths, in the order of their directories.

    Raises:
        UserError: A path does not exist, or none holds a run that has ended or a table.
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
    if not contents and not find_tables(paths):
        reason = f"; {left_out[0].directory}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"neither a finished run nor a table of a treebank in {', '.join(paths)}{reason}")
    names = short_names(map(str, contents))
    return [Run(names[str(path)], path, *content) for path, content in contents.items()], left_out


def find_tables(paths: Sequence[str]) -> list[Path]:
    """All tables of treebanks at and under some paths."""
    found = (file for path in map(Path, paths) for file in ([path] if path.is_file() else path.rglob("*.parquet")))
    return list(dict.fromkeys(found))


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
        results, model = run.results, _model_config(run)
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


def _model_config(run: Run) -> dict[str, Any]:
    """Of the exported model; empty for a model that depthlab does not export, whose tokens have no depth."""
    file = run.directory / "model" / "config.json"
    return json.loads(file.read_text()) if file.is_file() else {}


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


def _table_1(runs: Sequence[Run]) -> Table:
    language_models = {run.name: run.results for run in runs if run.is_language_model}
    if not language_models:
        raise UserError("none of the runs is one of pre-training or retrofit")
    return table_1(language_models)


def _curves(runs: Sequence[Run]) -> Iterator[Block]:
    language_models = [run for run in runs if run.is_language_model]
    drawn = 0
    for run in language_models:
        scalars = read_scalars(run.directory)
        if ALL in scalars:
            drawn += 1
            points = len(scalars[ALL])
            caption = (
                f"{run.name}: mean depth of the tokens of each kind in training. A point of a line is the mean over "
                f"{run.config['trainer']['log_every_n_steps']} steps, of about {run.results['tokens'] / points:,.0f} "
                "tokens of all kinds; tau is the weight of the ponder cost in the loss."
            )
            yield embed(depth_curves(scalars, run.name), caption, f"depth-{drawn}.png")
    if not drawn:
        raise UserError("none of the runs is one of pre-training or retrofit whose TensorBoard logs are there")


def _fixed_points(runs: Sequence[Run]) -> Iterator[Block]:
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


def _sentences(runs: Sequence[Run]) -> Iterator[Block]:
    adaptive = {run.task: run for run in reversed(runs) if _model_config(run).get("halting") == "act"}
    if not adaptive:
        raise UserError("none of the runs has an adaptive model")
    logging.disable_progress_bar()
    for run in list(adaptive.values())[::-1][:MOST_MODELS]:
        checkpoint = str(run.directory / "model")
        model = load_as_saved(checkpoint)
        predicts = isinstance(model, AdaptiveAlbertForPreTraining | AdaptiveAlbertForMaskedLM)
        inspector = Inspector(model, load_tokenizer(find_tokenizer(checkpoint)))
        inspections = [inspector(text if predicts else text.replace(" [MASK]", "")) for text in SENTENCES]
        deepest = max(piece.depth for inspection in inspections for piece in inspection.pieces)
        yield Heading(f"{run.name} ({run.task})")
        yield f"Depths stand below the pieces, {deepest} in the strongest colour."
        yield from (sentence(inspection, deepest) for inspection in inspections)
