"""The command `depthlab report RUN ...`: all there is to say about some runs, on one page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from transformers.utils import logging

from depthlab.analysis.inspection import Inspector
from depthlab.analysis.records import LeftOut, RunRecord, read_runs
from depthlab.analysis.tokens import read_tokens
from depthlab.data.benchmarks.glue_tasks import TASKS as GLUE
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForMaskedLM, AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import find_tokenizer, load_as_saved
from depthlab.render.document import Block, Document, Heading
from depthlab.render.publish import publish
from depthlab.render.sentences import sentence
from depthlab.reports.glue import glue_blocks
from depthlab.reports.probing import probing_blocks
from depthlab.reports.trained import Run, depth_figures, find_runs, fixed_point_figures, kinds_table, trained_table
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


def page(runs: list[str], to: str = "checkpoints/runs/report") -> None:
    """One page about runs: what was trained, depths, fixed point, GLUE, probing, which words, sample sentences.

    What there is nothing for is left out, with a note that says what would fill it.

    Args:
        runs: Run directories of `depthlab fit`, folders that hold such at any depth, and tables of a treebank
            (`depthlab predict --dump FILE.parquet`), which may lie in those folders.
        to: Folder for the report: `page.html`, `page.md` and its figures. An earlier one there is replaced.

    Raises:
        UserError: There is no run; a file is no table; or the report can't be written.
    """
    trained, left_out = find_runs(runs)
    tables, others = find_tables(runs)
    left_out += others
    if not trained and not tables:
        reason = f"; {left_out[0].directory}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"neither a finished run nor a table of a treebank in {', '.join(runs)}{reason}")
    folders = [path for path in runs if Path(path).is_dir()]
    files: dict[str, str] = {}

    def fine_tuned(suite: str) -> Sequence[RunRecord]:
        records, others = read_runs(folders, suite)
        known = {run.directory for run in trained if run.config["task"] != suite} | {run.directory for run in left_out}
        left_out.extend(run for run in others if run.directory not in known)
        return records

    def which_words() -> Sequence[Block]:
        if not tables:
            raise UserError(
                "there is no table of a treebank; `depthlab predict --config experiments/treebank.yaml --dump "
                "FILE.parquet` writes one, to be named beside the runs"
            )
        blocks, others = treebank_blocks(read_tokens(tables))
        files.update(others)
        return blocks

    sections: dict[str, Callable[[], Sequence[Block]]] = {
        "What was trained": lambda: [trained_table(trained)],
        "Depth by kind of token": lambda: [kinds_table(trained)],
        "Depth while training": lambda: list(depth_figures(trained)),
        "Fixed point": lambda: list(fixed_point_figures(trained)),
        "GLUE": lambda: glue_blocks(fine_tuned("glue"))[0],
        "Probing": lambda: probing_blocks(fine_tuned("probing")),
        "Which words": which_words,
        "Sentences": lambda: list(_sentences(trained)),
    }
    blocks = [block for title, make in sections.items() for block in _section(title, make)]
    publish("page", to, Document("Adaptive depth: what the runs show", blocks), left_out, files)


def _section(title: str, make: Callable[[], Sequence[Block]]) -> Iterator[Block]:
    yield Heading(title)
    try:
        blocks = make()
    except UserError as error:
        blocks = [f"Left out: {error}."]
    yield from (replace(block, level=3) if isinstance(block, Heading) else block for block in blocks)


def find_tables(paths: Sequence[str]) -> tuple[list[Path], list[LeftOut]]:
    """All tables of treebanks at and under some paths, each once; and what else in Parquet their folders hold.

    Raises:
        UserError: A file that is itself named is no such table.
    """
    tables: dict[Path, Path] = {}  # what it really is: as it was named first
    others = []
    for path in map(Path, paths):
        for file in [path] if path.is_file() else sorted(path.rglob("*.parquet")):
            try:
                read_tokens([file])
            except UserError as error:
                if file == path:
                    raise
                others.append(LeftOut(file, str(error).removeprefix(f"{file}: ")))
            else:
                tables.setdefault(file.resolve(), file)
    return list(tables.values()), others


def _sentences(runs: Sequence[Run]) -> Iterator[Block]:
    adaptive = {run.task: run for run in reversed(runs) if run.model.get("halting", "fixed") != "fixed"}
    if not adaptive:
        raise UserError("none of the runs has an adaptive model")
    logging.disable_progress_bar()
    yield (
        f"By the first adaptive run of each task, {MOST_MODELS} at most. The number of a piece is its depth; the "
        "strongest colour is that of a run's deepest piece."
    )
    for run in list(adaptive.values())[::-1][:MOST_MODELS]:
        checkpoint = str(run.directory / "model")
        model = load_as_saved(checkpoint)
        predicts = isinstance(model, AdaptiveAlbertForPreTraining | AdaptiveAlbertForMaskedLM)
        inspector = Inspector(model, load_tokenizer(find_tokenizer(checkpoint)))
        inspections = [inspector(text if predicts else text.replace(" [MASK]", "")) for text in SENTENCES]
        deepest = max(piece.depth for inspection in inspections for piece in inspection.pieces)
        yield Heading(f"{run.name} ({run.task})")
        if len(getattr(GLUE.get(run.results.get("task")), "texts", ())) > 1:
            yield "It was fine-tuned on pairs of texts: what it says of a single one means nothing."
        yield from (sentence(inspection, deepest) for inspection in inspections)
