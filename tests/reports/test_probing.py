"""The table of probing, against numbers that were worked out by hand, and pandas'."""

import pandas as pd
import pytest

from depthlab.commands.report import probing
from depthlab.errors import UserError
from depthlab.reports.probing import PAPER, PAPER_TASKS
from tests.reports.pages import rows
from tests.reports.synthetic import edit_results, write_run


def write_probe(directory, dev, test, task="tense", seed=0, **changes):
    """A run of a probing task: accuracies on dev by epoch, and of the best epoch on the test split."""
    results = {} if test is None else {"test/accuracy": test, "test/depth/all": 3.5 + seed, "test/depth/cls": 4.0}
    results["data"] = {"train": 5896, "dev": 1138, "test": 1032}
    changes = {"settings": {"task": "probing"}} | results | changes
    edit_results(write_run(directory, dev, "rte", seed=seed, **changes), task=task)  # whose metric is the accuracy, too


def report(runs, folder):
    """The table behind the report, and the rows of its Markdown by model and name."""
    probing([str(runs)], str(folder))
    return pd.read_csv(folder / "probing.csv"), rows((folder / "probing.md").read_text())


def test_best_epoch_on_dev_over_seeds(tmp_path):
    accuracies = {0: ([0.7, 0.8, 0.8, 0.75], 0.76), 1: ([0.9, 0.85], 0.7), 2: ([0.6, 0.65], 0.79)}
    for seed, (dev, test) in accuracies.items():
        write_probe(tmp_path / f"runs/{seed}", dev, test, seed=seed)
    write_probe(tmp_path / "runs/fixed", [0.5, 0.6], 0.9, model={"halting": "fixed"})
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    assert table.model.tolist() == ["nano, adaptive", "nano, fixed depth"] and table.seeds.tolist() == [3, 1]
    adaptive = table.iloc[0]
    assert (adaptive.dev_median, adaptive.dev_min, adaptive.dev_max) == pytest.approx((80, 65, 90))
    assert (adaptive.test_median, adaptive.test_min, adaptive.test_max) == pytest.approx((76, 70, 79))
    assert adaptive.depth == pytest.approx(4.5) and adaptive.examples == 5896
    assert adaptive.token_iterations_millions == pytest.approx((5000 + 5001 + 5002) / 3e6)
    assert rows["nano, adaptive", "test accuracy: median over seeds"] == ["76.0", "-", "-", "-"]
    assert rows["nano, adaptive", "best epoch of each seed"] == ["2, 1, 2", "-", "-", "-"]
    assert rows["nano, adaptive", "lowest..highest seed"][0] == "65.0..90.0", "the row below dev's"
    assert rows["nano, fixed depth", "test accuracy: median over seeds"][0] == "**90.0**"
    assert rows["nano, fixed depth", "lowest..highest seed"][0] == "-"


def test_warm_ups_are_models_of_their_own_and_other_tasks_have_columns(tmp_path):
    for warmup in (200, 3000):
        settings = {"task": "probing", "model.warmup_steps": warmup}
        write_probe(tmp_path / f"runs/{warmup}", [0.5], None, "bigram_shift", settings=settings)
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    assert table.model.tolist() == ["nano, adaptive, warm-up 200", "nano, adaptive, warm-up 3000"]
    assert rows["model", ""] == [*PAPER_TASKS, "bigram_shift"]
    assert rows["nano, adaptive, warm-up 200", "test accuracy: median over seeds"] == ["-"] * 5, "not tested"
    assert rows["nano, adaptive, warm-up 200", "dev accuracy: median"][-1] == "50.0"
    assert rows["nano, adaptive, warm-up 200", "mean depth: all tokens"][-1] == "5.00", "of dev"


def test_data_and_grid_make_models_of_their_own(tmp_path):
    """Nothing is pooled, or taken for a run of the same settings and seed, that is of other files or another grid."""
    data = {"train": 600, "dev": 80, "test": 90}
    for number, changes in enumerate(({}, {"learning_rate": 1e-4}, {"batch_size": 8}, {"data": data})):
        write_probe(tmp_path / f"runs/{number}", [0.5], 0.5 + number / 10, **changes)
    table, rows = report(tmp_path / "runs", tmp_path / "report")
    assert table.seeds.tolist() == [1] * 4 and table.model.nunique() == 4
    assert sum("examples 600/80/90" in name for name in table.model) == 1
    assert sorted(table.examples) == [600, 5896, 5896, 5896]
    assert not [row for row in rows.values() if "**" in row[0]], "of other files: none is the best"


def test_what_a_reader_would_not_guess_is_said(tmp_path):
    write_probe(tmp_path / "runs/a", [0.5, 0.5], 0.5, settings={"task": "probing", "model.warmup_steps": 20})
    write_probe(tmp_path / "runs/b", [0.5, 0.5], None, settings={"task": "probing", "model.warmup_steps": 19})
    report(tmp_path / "runs", tmp_path / "report")
    markdown = (tmp_path / "report/probing.md").read_text()
    assert "warm-up 20, tense: the warm-up of 20 steps is no shorter than the training of 20" in markdown
    assert "warm-up 19, tense: 1 of 1 runs were not tested" in markdown
    assert "warm-up of 19" not in markdown and "warm-up 20, tense: 1 of" not in markdown


def test_the_papers_numbers(tmp_path):
    write_probe(tmp_path / "runs/a", [0.5], 0.5)
    _, rows = report(tmp_path / "runs", tmp_path / "report")
    assert rows["paper: adaptive, base, warm-up 200", "test accuracy"] == ["87.5", "93.9", "96.1", "91.2"]
    draft = rows["paper: adaptive, base, warm-up 3,000 (a draft)", "mean depth: all tokens"]
    assert draft == ["7.5", "6.9", "7.7", "7.2"]
    assert len(PAPER) == 3 and "can't be compared" in (tmp_path / "report/probing.md").read_text()


def test_runs_of_other_experiments(tmp_path):
    """They are passed over in a folder, and pointed out where they were named."""
    write_probe(tmp_path / "runs/tense", [0.5], 0.5)
    rte = write_run(tmp_path / "runs/rte", [0.5])
    probing([str(tmp_path / "runs")], str(tmp_path / "report"))
    assert "left out" not in (tmp_path / "report/probing.md").read_text()
    probing([str(tmp_path / "runs"), f"{rte}/../rte/"], str(tmp_path / "report"))
    assert "rte: it is a run of glue, not of probing" in (tmp_path / "report/probing.md").read_text()
    with pytest.raises(UserError, match="no finished run of a probing task"):
        probing([str(rte)], str(tmp_path / "report"))
