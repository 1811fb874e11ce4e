"""The table of GLUE, against numbers that were worked out by hand, and NumPy's."""

import os
import re

import numpy as np
import pandas as pd
import pytest

from depthlab.cli import main
from depthlab.commands.report import glue
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.errors import UserError
from depthlab.reports.glue import AVERAGED, PAPER
from tests.reports.pages import Page, rows
from tests.reports.pages import cells as cells_of
from tests.reports.synthetic import write_run
from tests.support import error_of, printed_by

SCORES = {"mnli": 0.62, "qqp": 0.66, "qnli": 0.7, "sst2": 0.81, "cola": -0.125, "stsb": 0.3, "mrpc": 0.8, "rte": 0.54}
"""Their mean is 4.305 / 8 = 0.538125."""


def write_tasks(folder, tasks, **changes):
    for task, score in tasks.items():
        write_run(folder / task, [0.1, score], task, **changes)


def report(runs, folder):
    """The report's numbers, and the cells of its table by model and name, each by task."""
    glue([str(runs)], str(folder))
    (_, *header), *others = rows((folder / "glue.md").read_text()).items()
    tasks = {task.folder: name for name, task in GLUE_TASKS.items()}
    columns = [tasks.get(name, name) for name in header[0]]
    by_task = {key: dict(zip(columns, cells, strict=True)) for key, cells in others}
    return pd.read_csv(folder / "glue.csv"), by_task


def test_a_planted_configuration_is_found_and_its_seeds_summarized(tmp_path):
    planted = {0: 0.61, 1: 0.7, 2: 0.64, 3: 0.6, 4: 0.65}
    for rate in (5e-5, 3e-5, 2e-5):
        for batch in (16, 32):
            for seed, score in planted.items():
                best = (rate, batch) == (3e-5, 16)
                scores = [0.99, 0.5, score, 0.5] if best else [0.99, 0.5 + 0.05 * seed, 0.6, 0.55]
                run = tmp_path / f"runs/{rate}-{batch}-{seed}"
                write_run(run, scores, "cola", rate, batch, seed, depth=5 + seed, token_iterations=10**6 * (seed + 1))
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    row = table.iloc[0]
    assert (row.learning_rate, row.batch_size, row.epoch, row.seeds, row.tried) == (3e-5, 16, 3, 5, 18)
    values = 100 * np.array(list(planted.values()))
    assert row.score_median == pytest.approx(np.median(values)) and row.score_mean == pytest.approx(values.mean())
    assert (row.score_min, row.score_max, row.score_best) == pytest.approx((values.min(), values.max(), values.max()))
    assert row.glue_score_median == pytest.approx(63) and row.matthews_corrcoef_median == pytest.approx(64)
    assert row.best_seed == 1 and row.best_run == str(tmp_path / "runs/3e-05-16-1")
    assert row.depth == pytest.approx(np.mean([5, 6, 7, 8, 9]) - 0.2) and row.token_iterations == 3e6
    assert rows["nano", "score: median over seeds"]["cola"] == "64.0"
    assert rows["nano", "lowest..highest seed"]["cola"] == "60.0..70.0"
    assert rows["nano", "best seed"]["cola"] == "70.0"
    assert rows["nano", "mean depth: all tokens"]["cola"] == "6.8" and rows["nano", "[CLS]"]["cola"] == "8.0"
    assert rows["nano", "token-iterations (millions)"]["cola"] == "3.0"
    assert rows["model", "metric"].keys() == {"cola", "average"}, "tasks that nobody has tried have no column"


def test_averages_are_of_eight_tasks_without_wnli(tmp_path):
    write_tasks(tmp_path / "runs", {**SCORES, "wnli": 0.01})
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    average = table[table.task == "average of all 8"].iloc[0]
    assert average.score_median == pytest.approx(53.8125)
    assert average.glue_score_median == pytest.approx(52.8125)  # each task's is one point lower here
    assert rows["nano", "score: median over seeds"]["average"] == "53.8"
    assert rows["nano", "GLUE's own score: median"]["average"] == "52.8"
    assert rows["nano", "score: median over seeds"]["wnli"] == "1.0"
    assert rows["model", "metric"]["stsb"] == "Spearman" and rows["model", "metric"]["qqp"] == "F1"


def test_an_average_of_some_tasks_says_so(tmp_path):
    write_tasks(tmp_path / "runs", {"rte": 0.5, "cola": 0.25, "wnli": 0.9})
    write_tasks(tmp_path / "runs/other", {"wnli": 0.9}, model={"halting": "fixed"})
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    assert rows["nano, adaptive", "score: median over seeds"]["average"] == "37.5 (2 tasks)"
    assert rows["nano, fixed depth", "score: median over seeds"]["average"] == "-"
    assert list(table.task[table.task.str.startswith("average of")]) == ["average of only 2"]


def test_a_seed_that_has_diverged_leaves_nothing_to_say_of_the_others(tmp_path):
    """Where all configurations have one; otherwise another is chosen."""
    write_run(tmp_path / "runs/a", [0.5, 0.7], "rte", seed=0)
    write_run(tmp_path / "runs/b", [0.5, float("nan")], "rte", seed=1)
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    assert rows["nano", "score: median over seeds"]["rte"] == "-"
    ours = table[table.model == "nano"].iloc[0]
    assert ours.seeds == 2 and ours.score_best == pytest.approx(70)
    assert pd.isna([ours.score_median, ours.score_min, ours.score_mean]).all()


def test_the_papers_numbers_stand_beside_ours(tmp_path):
    write_tasks(tmp_path / "runs", {"rte": 0.5, "mnli": 0.5})
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    base = rows["paper: adaptive, base", "TEST set"]
    assert (base["mnli"], base["rte"], base["average"]) == ("79.9/79.2", "63.0", "75.2")
    assert rows["paper: ALBERT-base, 12 layers", "TEST set"]["average"] == "75.6"
    published = table.dropna(subset="test_score").set_index(["model", "task"]).test_score
    assert published["paper: BERT-base", "mnli"] == pytest.approx(81.85)
    assert published["paper: adaptive, tiny", "average as published"] == 72.6
    assert len(published) == 4 * 8 + len(PAPER)


def test_the_highest_median_stands_out_among_several(tmp_path):
    write_tasks(tmp_path / "runs/a", {"rte": 0.5})
    write_tasks(tmp_path / "runs/b", {"rte": 0.6}, model={"halting": "fixed"})
    _, rows = report(tmp_path / "runs", tmp_path / "report")
    cells = [rows[model, "score: median over seeds"]["rte"] for model in ("nano, adaptive", "nano, fixed depth")]
    assert cells == ["50.0", "**60.0**"]
    assert "<strong>60.0</strong>" in (tmp_path / "report/glue.html").read_text()
    assert cells_of((tmp_path / "report/glue.md").read_text(), "RTE") == ["RTE", "nano, adaptive", "-10.0 (1)"]


def test_what_a_reader_would_not_guess_is_said(tmp_path):
    write_run(tmp_path / "runs/a", [0.5, 0.5], "rte", seed=0)
    write_run(tmp_path / "runs/b", [0.5, 0.5], "rte", seed=1, data={"train": 2000, "dev": 277})
    write_run(tmp_path / "runs/c", [0.5, 0.5], "rte", seed=1, learning_rate=1e-4)
    write_run(tmp_path / "runs/d", [0.5, 0.5], "mnli", settings={"trainer.max_epochs": 2})
    mnli = (tmp_path / "runs/d/results.json").read_text()
    (tmp_path / "runs/d/results.json").write_text(re.sub(r'"val/accuracy_mismatched": 0.5, ', "", mnli))
    assert '"val/accuracy_mismatched": 0.5, ' in mnli
    (tmp_path / "runs/e").mkdir()
    (tmp_path / "runs/e/config.yaml").touch()
    glue([str(tmp_path / "runs")], str(tmp_path / "report"))
    for text in ((tmp_path / f"report/glue.{kind}").read_text() for kind in ("md", "html")):
        for phrase in (
            "nano, RTE: 1 configurations have fewer than 2 seeds",
            "trainer.max_epochs differs between tasks: 4 (RTE); 2 (MNLI)",
            "2,000 train, 277 dev or 2,490 train, 277 dev examples",
            "nano: MNLI is its matched set alone",
            f"{tmp_path}/runs/e: unfinished or failed",
        ):
            assert phrase in text, phrase


def test_that_tasks_of_your_own_are_of_other_files_is_not_said(tmp_path):
    for task in ("rte", "mnli"):
        settings = {"task": "own", "data.train": f"{task}.tsv", "data.max_length": 64 + len(task)}
        write_run(tmp_path / "runs" / task, [0.5], task, settings=settings)
    main(["report", "own", str(tmp_path / "runs"), "--to", str(tmp_path / "report")])
    text = (tmp_path / "report/own.md").read_text()
    assert "data.max_length differs between tasks" in text and "data.train" not in text


def test_the_page_needs_no_network(tmp_path):
    write_tasks(tmp_path / "runs <b>", {"rte": 0.5, "cola": 0.25}, model={"checkpoint": "a<b>&c"})
    glue([str(tmp_path / "runs <b>")], str(tmp_path / "report"))
    page = Page(tmp_path / "report/glue.html")
    text = page.text
    assert not page.fetched and "http" not in text
    assert "<b>" not in text and "a&lt;b&gt;&amp;c" in text
    scores, chosen = page.tables
    assert set(scores) == {5, 4} and set(chosen) == {9, 8}  # a row that continues a model lacks its name
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_a_report_replaces_an_earlier_one_and_nothing_else(tmp_path, capsys):
    write_tasks(tmp_path / "runs", {"rte": 0.5})
    target = tmp_path / "report"
    command = ["report", "glue", str(tmp_path / "runs"), "--to", str(target)]
    assert f"report  {target}/glue.html" in printed_by(command)
    (target / "notes.txt").write_text("mine")
    before = (target / "glue.csv").read_text()
    write_run(tmp_path / "runs/more", [0.5, 0.7], seed=1)
    main(command)
    assert (target / "glue.csv").read_text() != before and (target / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(target)) == ["glue.csv", "glue.html", "glue.md", "notes.txt"]
    capsys.readouterr()
    (target / "glue.html").write_text("somebody else's")
    assert "has a glue.md that is not of an earlier `depthlab report glue`" in error_of(capsys, command)
    assert (target / "glue.html").read_text() == "somebody else's"
    for name in ("glue.md", "glue.csv", "glue.html"):
        (target / name).unlink()
    (target / "glue.csv").write_text("data of mine")
    assert "has a glue.csv" in error_of(capsys, command)
    assert sorted(os.listdir(target)) == ["glue.csv", "notes.txt"]


def test_a_folder_that_cannot_be_written(tmp_path):
    write_tasks(tmp_path / "runs", {"rte": 0.5})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the report to --to"):
        glue([str(tmp_path / "runs")], str(tmp_path / "file/report"))


def test_every_task_has_a_column():
    assert {*AVERAGED, "wnli"} == set(GLUE_TASKS)


@pytest.mark.parametrize("command", [["report", "glue"], ["report"], ["report", "glue", "no/such"]])
def test_bad_commands_get_one_line(capsys, command):
    error_of(capsys, command)
