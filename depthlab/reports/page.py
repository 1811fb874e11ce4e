"""All there is to say about some runs, on one page."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from transformers.utils import logging

from depthlab.analysis.inspection import Inspector
from depthlab.analysis.records import RunRecord, read_records
from depthlab.analysis.survey import LeftOut, Survey
from depthlab.analysis.tokens import join_tokens, read_table
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForMaskedLM, AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import find_tokenizer, load_as_saved
from depthlab.render.document import Block, Heading
from depthlab.render.sentences import sentence
from depthlab.reports.glue import glue_blocks, task_blocks
from depthlab.reports.probing import probing_blocks
from depthlab.reports.trained import Run, depth_figures, fixed_point_figures, kinds_tables, name_runs, trained_table
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


def page_blocks(found: Survey) -> tuple[list[Block], dict[str, str], list[LeftOut]]:
    """A section for everything that there may be; what there is nothing for is left out, with a note.

    Returns:
        The sections; other files by name; and what can't be used.

    Raises:
        UserError: There is neither a run nor a table.
    """
    trained, unnamed = name_runs(found.runs)
    tables, foreign = read_tables(found)
    left_out = [*found.left_out, *unnamed, *foreign]
    if not trained and not tables:
        reason = f"; {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"neither a finished run nor a table of a treebank in {', '.join(found.paths)}{reason}")
    files: dict[str, str] = {}

    def fine_tuned(suite: str) -> Sequence[RunRecord]:
        records, others = read_records(found, suite)
        known = {run.directory.path for run in trained if run.config["task"] != suite} | {
            other.path for other in left_out
        }
        left_out.extend(other for other in others if other.path not in known)
        return records

    def which_words() -> Sequence[Block]:
        if not tables:
            raise UserError(
                "there is no table of a treebank; `depthlab predict --config experiments/treebank.yaml --dump "
                "FILE.parquet` writes one, to be named beside the runs"
            )
        blocks, others = treebank_blocks(join_tokens(tables))
        files.update(others)
        return blocks

    sections: dict[str, Callable[[], Sequence[Block]]] = {
        "What was trained": lambda: [trained_table(trained)],
        "Depth by kind of token": lambda: kinds_tables(trained),
        "Depth while training": lambda: list(depth_figures(trained)),
        "Fixed point": lambda: list(fixed_point_figures(trained)),
        "GLUE": lambda: glue_blocks(fine_tuned("glue"))[0],
        "Your own tasks": lambda: task_blocks(fine_tuned("own"))[0],
        "Probing": lambda: probing_blocks(fine_tuned("probing"))[0],
        "Which words": which_words,
        "Sentences": lambda: list(_sentences(trained)),
    }
    blocks = [block for title, make in sections.items() for block in _section(title, make)]
    return blocks, files, left_out


def _section(title: str, make: Callable[[], Sequence[Block]]) -> Iterator[Block]:
    yield Heading(title)
    try:
        blocks = make()
    except UserError as error:
        blocks = [f"Left out: {error}."]
    yield from (replace(block, level=3) if isinstance(block, Heading) else block for block in blocks)


def read_tables(found: Survey) -> tuple[list[tuple[Path, pd.DataFrame]], list[LeftOut]]:
    """The tables of treebanks among the files that were found; and what else there is."""
    tables, others = [], []
    for file in found.tables:
        try:
            tables.append((file, read_table(file)))
        except UserError as error:
            others.append(LeftOut(file, str(error).removeprefix(f"{file}: ")))
    return tables, others


def _sentences(runs: Sequence[Run]) -> Iterator[Block]:
    adaptive = {run.task: run for run in reversed(runs) if run.model.get("halting", "fixed") != "fixed"}
    if not adaptive:
        raise UserError("none of the runs has an adaptive model")
    logging.disable_progress_bar()
    yield (
        f"By the first adaptive run of each task, {MOST_MODELS} at most. The number of a piece is its depth; the "
        "strongest colour is that of the run's cap."
    )
    for run in list(adaptive.values())[::-1][:MOST_MODELS]:
        checkpoint = str(run.directory.model)
        model = load_as_saved(checkpoint)
        predicts = isinstance(model, AdaptiveAlbertForPreTraining | AdaptiveAlbertForMaskedLM)
        inspector = Inspector(model, load_tokenizer(find_tokenizer(checkpoint)))
        inspections = [inspector(text if predicts else text.replace(" [MASK]", "")) for text in SENTENCES]
        yield Heading(f"{run.name} ({run.task})")
        if len(getattr(GLUE_TASKS.get(run.results.get("task")), "texts", ())) > 1:
            yield "It was fine-tuned on pairs of texts: what it says of a single one means nothing."
        yield from (sentence(inspection) for inspection in inspections)
