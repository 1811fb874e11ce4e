"""Which words think longest, and why: depth by label, the paper's Table 3 beside it, and what else depth goes with."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from depthlab.analysis.confounds import CONFOUNDS, label_effects
from depthlab.analysis.labels import depth_by_label, relations, stanford
from depthlab.analysis.names import name_models, run_directory, shorten, tell_apart
from depthlab.analysis.records import RunRecord, as_record
from depthlab.errors import UserError
from depthlab.render.confound_figures import confound_figure, effects_figure
from depthlab.render.document import Block, Bullets, Figure, Heading
from depthlab.render.figures import embed
from depthlab.reports.confounds import confounds_table, effects_table, in_all
from depthlab.reports.labels import label_table, paper_table, published
from depthlab.run.directory import read_run

NAMED = ("task", "halting", "model.warmup_steps")
"""Settings that the name of a fine-tuned model has, whatever else differs."""


def treebank_blocks(tokens: pd.DataFrame) -> tuple[list[Block], dict[str, str]]:
    """The report's content. What can't be made of the tokens is a note in its place.

    Args:
        tokens: As :mod:`depthlab.analysis.tokens` has them; `model` is the checkpoint.

    Returns:
        Its blocks; and other files by name: the depths of all labels in `treebank.csv`.
    """
    names, columns = name_columns(list(dict.fromkeys(tokens.model)))
    read = tokens.groupby(["model", "treebank"], sort=False)
    several = tokens.treebank.nunique() > 1
    on = {(model, where): f"{names[model]} on {where}" if several else names[model] for model, where in read.groups}
    blocks: list[Block] = [Bullets([_counted(on[which], rows) for which, rows in read])]
    tokens = tokens.assign(model=[on[which] for which in zip(tokens.model, tokens.treebank, strict=True)])
    treebanks = {names[model]: [on[which] for which in on if which[0] == model] for model in dict.fromkeys(names)}
    if several:
        columns = {
            f"{heading} on {where}": [name for name in on.values() if name in {f"{run} on {where}" for run in runs}]
            for heading, runs in columns.items()
            for where in dict.fromkeys(tokens.treebank)
        }
    differing = tokens[tokens.groupby("model").depth.transform("nunique") > 1]
    summaries: dict[str, pd.DataFrame] = {}
    if len(differing):
        labels = {"relation": relations(differing), "part of speech": differing.upos}
        for name, values in labels.items():
            blocks.append(Heading(f"Depth by {name}"))
            with _noted(blocks):
                summaries[name] = depth_by_label(differing, values)
                blocks.append(label_table(summaries[name], name))
        labels = {name: values for name, values in labels.items() if name in summaries}
        blocks.append(Heading("The paper's Table 3"))
        with _noted(blocks):
            summaries["Stanford label"] = depth_by_label(tokens, stanford(tokens))
            blocks.append(paper_table(summaries["Stanford label"], columns))
        blocks.append(Heading("Why: what else depth goes with"))
        for name, values in labels.items():
            with _noted(blocks):
                blocks += _effects(differing, values, name, treebanks)
        for confound in CONFOUNDS:
            with _noted(blocks):
                blocks.append(_against(differing, confound))
    summaries["Stanford label, as published"] = published()
    table = pd.concat(summaries, names=["labels"]).reset_index("labels").convert_dtypes()
    return blocks, {"treebank.csv": table.to_csv(index=False)}


def name_columns(checkpoints: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """What to call the models of tables, and which of them differ in their seed only.

    Returns:
        By checkpoint, as `depthlab predict` was given it, a short name: of a fine-tuning run that is still there the
        settings, of others as much of the path as tells them apart. And by heading the names that have one column
        together.
    """
    names = shorten(checkpoints)
    headings = dict(names)
    runs = {checkpoint: run for checkpoint in checkpoints if (run := _run_of(checkpoint))}
    settings = [
        {"task": run.task, "learning_rate": run.learning_rate, "batch_size": run.batch_size, "seed": run.seed}
        | {name: value for name, value in run.training.items() if name in NAMED}
        | model
        for run, model in zip(runs.values(), tell_apart(list(runs.values())), strict=True)
    ]
    without_seed = [{name: value for name, value in model.items() if name != "seed"} for model in settings]
    of_runs = dict(zip(runs, name_models(settings, NAMED), strict=True))
    times = Counter(of_runs.values())
    for (checkpoint, name), heading in zip(of_runs.items(), name_models(without_seed, NAMED), strict=True):
        if times[name] == 1:  # else two states of one run, say
            names[checkpoint], headings[checkpoint] = name, heading
    columns: dict[str, list[str]] = {}
    times = Counter(headings.values())
    for checkpoint, heading in headings.items():
        count = times[heading]
        columns.setdefault(heading if count == 1 else f"{heading} ({count} runs)", []).append(names[checkpoint])
    return names, columns


def _run_of(checkpoint: str) -> RunRecord | None:
    """The fine-tuning run that a checkpoint is of, where it has ended and can be read."""
    try:
        return as_record(read_run(Path(run_directory(checkpoint))))
    except UserError:
        return None


def _counted(name: str, rows: pd.DataFrame) -> str:
    """What a model has read, and how deep."""
    checkpoint = rows.model.iloc[0]
    words = len(rows[["sentence", "word"]].drop_duplicates())
    read = f"{len(rows):,} pieces of {words:,} words in {rows.sentence.nunique():,} sentences"
    called = name if name == checkpoint else f"{name} ({checkpoint})"
    if rows.depth.nunique() == 1:
        return f"{called}: every one of {read} has depth {rows.depth.iloc[0]}, so labels make no difference."
    return f"{called}: mean depth {rows.depth.mean():.2f} of {read}."


@contextmanager
def _noted(blocks: list[Block]) -> Iterator[None]:
    """What can't be made leaves a note."""
    try:
        yield
    except UserError as error:
        blocks.append(f"Left out: {error}.")


def _effects(tokens: pd.DataFrame, labels: pd.Series, name: str, treebanks: dict[str, list[str]]) -> list[Block]:
    effects = label_effects(tokens, labels)
    known = set(effects.fits.model)
    treebanks = {model: [which for which in names if which in known] for model, names in treebanks.items()}
    caption = (
        f"The table above as a picture: how many iterations deeper the pieces of words of a {name} are than all "
        "others, as they are, and with the confounds held."
    )
    picture = embed(effects_figure(effects, name), caption, f"treebank-{name.replace(' ', '-')}.png")
    return [effects_table(effects, name), Bullets([in_all(effects, treebanks)]), picture, confounds_table(effects)]


def _against(tokens: pd.DataFrame, confound: str) -> Figure:
    caption = (
        f"Mean depth of the pieces against {CONFOUNDS[confound].text}, whatever their labels. A point is all pieces of "
        "one value, or of neighbouring ones, at their mean. The bands are 95 % intervals from the bootstrap over "
        "documents, over sentences where there is but one document; below, the number of pieces behind each point."
    )
    return embed(confound_figure(tokens, confound), caption, f"treebank-{confound.replace('_', '-')}.png")
