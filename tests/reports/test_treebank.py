"""The report on a treebank: its numbers against pandas on the dumps, which runs share a column, what is left out."""

import re

import numpy as np
import pandas as pd
import pytest

from depthlab.cli import main
from depthlab.render.document import Bullets, Document, Figure, Heading, Table
from depthlab.render.publish import publish
from depthlab.reports.treebank import name_columns, treebank_blocks
from tests.analysis.token_tables import token_table
from tests.reports.pages import Page, cells
from tests.reports.synthetic import write_run
from tests.support import error_of

RELATIONS, TAGS, PAPER = "Depth by relation", "Depth by part of speech", "The paper's Table 3"
WHY = "Why: what else depth goes with"
WARM_UPS_AND_SEEDS = ("warm-up 200, seed 0", "warm-up 200, seed 1", "warm-up 3000, seed 0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of an adaptive model, another warm-up, and a fixed depth, with what each has read."""
    folder = tmp_path_factory.mktemp("runs")
    changes = ({}, {"seed": 1}, {"settings": {"model.warmup_steps": 3000}}, {"model": {"halting": "fixed"}})
    for number, (name, of_run) in enumerate(zip("abcd", changes, strict=True)):
        run = write_run(folder / name, [0.5], **of_run)
        table = token_table(number, model=f"{run}/checkpoints/best.ckpt").drop(columns="treebank")
        table.assign(depth=12 if name == "d" else table.depth).to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def report(runs):
    main(["report", "treebank", *(str(runs / f"{name}.parquet") for name in "abcd"), "--to", str(runs / "report")])
    return runs / "report"


def test_all_depths_are_those_of_the_dumps(runs, report):
    names = {f"rte, adaptive, {of}": file for of, file in zip(WARM_UPS_AND_SEEDS, "abc", strict=True)}
    found = pd.read_csv(report / "treebank.csv")
    ours = found[~found.model.str.contains("paper|fixed depth")].set_index(["model", "labels", "label"])
    expected = {}
    for name, file in names.items():
        dump = pd.read_parquet(runs / f"{file}.parquet")
        pooled = dump.deprel.str.split(":").str[0]
        old = dump.deprel.replace({"obj": "dobj", "obl": "pobj", "nmod": "pobj", "case": "prep"})
        for labels, column in (("relation", pooled), ("part of speech", dump.upos), ("Stanford label", old)):
            for label, depths in dump.depth.groupby(column):
                expected[name, labels, label] = (len(depths), depths.mean(), depths.std())
    assert sorted(ours.index) == sorted(expected)
    for key, values in expected.items():
        assert tuple(ours.loc[key, ["pieces", "mean", "std"]]) == pytest.approx(values), key
    assert (found.labels == "Stanford label, as published").sum() == 40


def test_the_page(report):
    text = Page(report / "treebank.html").text
    assert re.findall(r"<h2[^>]*>([^<]+)</h2>", text.replace("&#x27;", "'")) == [RELATIONS, TAGS, PAPER, WHY]
    ids = re.findall(r" id=\"([^\"]+)\"", text)
    assert len(ids) == len(set(ids)) and text.count("<svg") == 7
    pictures = {file.stem for file in report.glob("treebank-*.png")}
    labels, confounds = {"relation", "part-of-speech"}, {"frequency", "position", "pieces", "loss", "sentence-length"}
    assert pictures == {f"treebank-{name}" for name in labels | confounds}
    markdown = (report / "treebank.md").read_text()
    assert all(f"({name}.png)" in markdown for name in pictures) and "Left out" not in markdown
    fixed = r"- rte, fixed depth, .+/d/checkpoints/best\.ckpt\): every one .+ has depth 12, so labels"
    assert re.search(fixed, markdown)


def test_seeds_share_a_column_of_the_papers_table(runs, report):
    markdown = (report / "treebank.md").read_text()
    headings = ["rte, adaptive, warm-up 200 (2 runs)", "rte, adaptive, warm-up 3000", "rte, fixed depth, warm-up 200"]
    assert cells(markdown, "label")[1:5] == [*headings, "tokens"]
    row = cells(markdown.partition(f"## {PAPER}")[2], "dobj (obj)")
    dumps = [pd.read_parquet(runs / f"{name}.parquet") for name in "ab"]
    low, high = sorted(dump.depth[dump.deprel == "obj"].mean() for dump in dumps)
    assert row[1].strip("*") == f"{(low + high) / 2:.2f} [{low:.2f}, {high:.2f}]"
    assert row[3] == "12.00 [12.00, 12.00]"


def test_names_of_runs(tmp_path):
    for number, changes in enumerate(({}, {"seed": 1}, {"learning_rate": 1e-5}, {"task": "cola"})):
        write_run(tmp_path / f"run-{number}", [0.5], **changes)
    best = [f"{tmp_path}/run-{number}/checkpoints/best.ckpt" for number in (0, 1)]
    others = [f"{tmp_path}/run-2", f"{tmp_path}/run-3/model", "some/model-x", "gone/checkpoints/last.ckpt"]
    names, columns = name_columns([*best, *others])
    assert columns == {
        "rte, adaptive, learning rate 3e-05, warm-up 200 (2 runs)": [names[best[0]], names[best[1]]],
        "rte, adaptive, learning rate 1e-05, warm-up 200": [names[others[0]]],
        "cola, adaptive, learning rate 3e-05, warm-up 200": [names[others[1]]],
        "model-x": ["model-x"],
        "gone": ["gone"],
    }


def test_two_states_of_a_run_are_not_two_seeds(tmp_path):
    run = write_run(tmp_path / "run", [0.5])
    states = [f"{run}/checkpoints/{state}.ckpt" for state in ("best", "last")]
    assert name_columns(states) == ({state: state for state in states}, {state: [state] for state in states})


@pytest.mark.full
def test_two_treebanks_of_one_model(tmp_path):
    for number, name in enumerate(("ewt", "gum")):
        table = token_table(number, sentences=80).assign(document=lambda table, n=name: n + table.document)
        table.loc[table.upos == "VERB", "depth"] += 3
        table.drop(columns="treebank").to_parquet(tmp_path / f"{name}.parquet")
    main(["report", "treebank", *(str(tmp_path / f"{name}.parquet") for name in ("ewt", "gum")), "--to", str(tmp_path)])
    markdown = (tmp_path / "treebank.md").read_text()
    assert "- ours on ewt (ours): mean depth" in markdown and "- ours on gum (ours): mean depth" in markdown
    assert "In all 2 treebanks of ours, held and after the correction, deeper: VERB; shallower: " in markdown
    assert cells(markdown.partition(f"## {PAPER}")[2], "label")[1:3] == ["ours on ewt", "ours on gum"]
    row = cells(markdown.partition(f"## {PAPER}")[2], "root")
    assert [cell.strip("*")[:4] for cell in row[1:3]] == [
        f"{table.depth[table.deprel == 'root'].mean():.2f}"
        for table in (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("ewt", "gum"))
    ]


def notes(blocks):
    return [block for block in blocks if isinstance(block, str)]


def test_what_is_not_annotated_or_measured_is_a_note(tmp_path):
    tokens = token_table().assign(deprel=None, frequency=np.nan, loss=np.nan, pieces=1)
    tokens["sentence_length"] = tokens["position"] = 5
    blocks, files = treebank_blocks(tokens)
    missing = [r"Left out: no word has a label in deprel: .+ annotated with it\."] * 2
    unmeasured = [rf"Left out: {name} .+ was not measured: see .+\." for name in ("frequency", "loss")]
    for note, expected in zip(notes(blocks), [*missing, *unmeasured], strict=True):
        assert re.fullmatch(expected, note)
    headings = [block.text for block in blocks if isinstance(block, Heading)]
    assert headings == [RELATIONS, TAGS, PAPER, WHY]
    tables = [block.header[0] for block in blocks if isinstance(block, Table)]
    assert tables == ["part of speech", "part of speech", "confound (unit)"]
    publish("treebank", str(tmp_path), Document("words", blocks), [], files)
    pictures = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert pictures == {block.file: block.png for block in blocks if isinstance(block, Figure)}
    assert "treebank-part-of-speech.png" in pictures and "treebank-relation.png" not in pictures
    assert "part of speech" in files["treebank.csv"] and "relation" not in files["treebank.csv"]


def test_a_sentence_is_too_little_for_a_regression():
    tokens = token_table(sentences=1).assign(frequency=np.nan, loss=np.nan)
    blocks, _ = treebank_blocks(tokens)
    too_few = [note for note in notes(blocks) if "in 1 sentences are too few for a regression" in note]
    assert len(too_few) == 2 and sum(isinstance(block, Table) for block in blocks) == 3


def test_a_model_of_one_depth_has_no_sections():
    blocks, files = treebank_blocks(token_table().assign(depth=6))
    (bullets,) = blocks
    pieces = len(token_table())
    assert isinstance(bullets, Bullets) and f"every one of {pieces:,} pieces" in bullets.texts[0]
    assert list(files) == ["treebank.csv"]


@pytest.mark.full
def test_a_table_that_was_changed_is_left_out(capsys, tmp_path):
    token_table(sentences=4).to_parquet(tmp_path / "whole.parquet")
    token_table(sentences=4, model="other").drop(columns="depth").to_parquet(tmp_path / "changed.parquet")
    main(["report", "treebank", str(tmp_path), "--to", str(tmp_path / "report")])
    page = (tmp_path / "report/treebank.md").read_text()
    assert "changed.parquet: the table has no column depth" in page and "pieces of" in page
    command = ["report", "treebank", str(tmp_path / "changed.parquet"), "--to", str(tmp_path / "other")]
    assert "changed.parquet: the table has no column depth" in error_of(capsys, command)


def test_no_table_gets_one_line(capsys, tmp_path):
    command = ["report", "treebank", str(tmp_path / "none.parquet"), "--to", str(tmp_path / "report")]
    assert "none.parquet does not exist" in error_of(capsys, command)
    assert not (tmp_path / "report").exists()
