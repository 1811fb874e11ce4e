"""`depthlab report`: what runs and tables show, as Markdown and as a page that needs no network."""

from collections.abc import Callable, Sequence

import pandas as pd

from depthlab.analysis.records import RunRecord, read_records
from depthlab.analysis.survey import survey
from depthlab.analysis.tokens import join_tokens
from depthlab.errors import UserError
from depthlab.render.document import Block, Document
from depthlab.render.publish import publish
from depthlab.reports.glue import glue_blocks, task_blocks
from depthlab.reports.page import page_blocks, read_tables
from depthlab.reports.pareto import pareto_blocks
from depthlab.reports.probing import probing_blocks
from depthlab.reports.treebank import treebank_blocks


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
    blocks, files, left_out = page_blocks(survey(runs))
    publish("page", to, Document("Adaptive depth: what the runs show", blocks), left_out, files)


def glue(runs: list[str], to: str = "checkpoints/runs/report-glue") -> None:
    """The table of GLUE: every task and model, best of the grid on dev, over seeds, beside the paper's numbers.

    Args:
        runs: Run directories of `depthlab fit`, or folders that hold such at any depth, as that of a sweep.
        to: Folder for the report: `glue.md`, `glue.csv` and `glue.html`. An earlier one there is replaced.

    Raises:
        UserError: There is no finished run of a GLUE task, or the report can't be written.
    """
    _of_runs("glue", "GLUE: adaptive depth on the development sets", glue_blocks, runs, to, ["glue"])


def pareto(runs: list[str], to: str = "checkpoints/runs/report-pareto") -> None:
    """The depth-quality curve: score against depth, work and time, of rules and of training, beside fixed depths.

    Args:
        runs: Run directories of `depthlab fit`, or folders that hold such at any depth, as that of a sweep. What
            `depthlab dial` has measured of their models is in them.
        to: Folder for the report: `pareto.md`, `pareto.csv`, `pareto.png` and `pareto.html`. An earlier one there is
            replaced.

    Raises:
        UserError: There is no finished run of a GLUE task or your own, or the report can't be written.
    """
    _of_runs("pareto", "Depth and quality", pareto_blocks, runs, to, ["glue", "own"])


def own(runs: list[str], to: str = "checkpoints/runs/report-own") -> None:
    """The table of your own tasks: every task and model, best of the grid on dev, over seeds.

    Args:
        runs: Run directories of `depthlab fit`, or folders that hold such at any depth, as that of a sweep.
        to: Folder for the report: `own.md`, `own.csv` and `own.html`. An earlier one there is replaced.

    Raises:
        UserError: There is no finished run of your own task, or the report can't be written.
    """
    _of_runs("own", "Your own tasks: adaptive depth on the development sets", task_blocks, runs, to, ["own"])


def probing(runs: list[str], to: str = "checkpoints/runs/report-probing") -> None:
    """The table of probing: every task and model, best epoch on dev, over seeds, beside the paper's numbers.

    Args:
        runs: Run directories of `depthlab fit`, or folders that hold such at any depth, as that of a sweep.
        to: Folder for the report: `probing.md`, `probing.csv` and `probing.html`. An earlier one there is replaced.

    Raises:
        UserError: There is no finished run of a probing task, or the report can't be written.
    """
    title = "Probing: what the model knows of a sentence, and how deep it goes for it"
    _of_runs("probing", title, probing_blocks, runs, to, ["probing"])


def treebank(tables: list[str], to: str = "checkpoints/runs/report-treebank") -> None:
    """Which words think longest: depth by relation and part of speech, the paper's Table 3 beside ours, confounds.

    Args:
        tables: Files in Parquet that `depthlab predict --dump` has written, of a model each or of several, or
            folders of such.
        to: Folder for the report: `treebank.md`, `treebank.csv`, `treebank.html` and pictures, `treebank-*.png`. An
            earlier one there is replaced.

    Raises:
        UserError: There is no table, or the report can't be written.
    """
    read, left_out = read_tables(survey(tables))
    if not read:
        raise UserError(f"{left_out[0].path}: {left_out[0].reason}" if left_out else f"no table in {', '.join(tables)}")
    blocks, files = treebank_blocks(join_tokens(read))
    publish("treebank", to, Document("Which words think longest", blocks), left_out, files)


Make = Callable[[Sequence[RunRecord]], tuple[list[Block], pd.DataFrame]]


def _of_runs(name: str, title: str, make: Make, runs: list[str], to: str, suites: Sequence[str]) -> None:
    """The report on fine-tuning runs, with its numbers in a file beside it."""
    records, left_out = read_records(survey(runs), *suites, dials=name == "pareto")
    blocks, table = make(records)
    publish(name, to, Document(title, blocks), left_out, {f"{name}.csv": table.to_csv(index=False)})


KINDS = {"page": page, "glue": glue, "own": own, "pareto": pareto, "probing": probing, "treebank": treebank}
"""Of reports; without one, `depthlab report RUN ...` is the page."""
