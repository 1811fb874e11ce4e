"""The depth-quality curve: its points against pandas on the runs' own files, its lines, its picture."""

import json
import math
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from scipy.stats import t, ttest_rel

from depthlab.commands.report import pareto
from depthlab.render.figures import COLOURS
from tests.reports.pages import Page, sections, split
from tests.reports.synthetic import edit_results, write_run

MEASURED = ("score", "depth", "milliseconds", "iterations", "gflops")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Adaptive models of two caps over tau, fixed depths, and a control with fewer seeds, on two tasks."""
    folder = tmp_path_factory.mktemp("runs")
    draw = np.random.default_rng(0)

    def write(task, seed, model, depth, **results):
        write_run(
            folder / str(len(list(folder.iterdir()))),
            draw.uniform(0.4, 0.9, 3).tolist(),
            task,
            seed=seed,
            model=model,
            depth=depth,
            epoch_values={
                "val/seconds_per_example": draw.uniform(0.001, 0.01),
                "val/token_iterations_per_example": draw.uniform(100, 200),
                "val/flops_per_example": draw.uniform(1e8, 1e9),
            },
            **results,
        )

    for task in ("rte", "cola"):
        for seed in range(3):
            for cap in (6, 12):
                for tau in (0.0, 0.004, 0.001):
                    write(task, seed, {"num_hidden_layers": cap, "time_penalty": tau}, draw.uniform(1, cap))
            for depth in (1, 2, 10):
                write(task, seed, {"num_hidden_layers": depth, "halting": "fixed", "time_penalty": 0.1}, depth)
    for seed in range(2):
        write("rte", seed, {}, 4.0, control="shuffled")
    return folder


@pytest.fixture(scope="module")
def report(runs):
    folder = runs.parent / "report"
    pareto([str(runs)], str(folder))
    return folder


def reference(runs):
    """Points by task, halting, cap, tau and control, without anything of the package."""
    rows = []
    for file in Path(runs).rglob("results.json"):
        results = json.loads(file.read_text())
        model = results["model"]
        for epoch in results["epochs"][1:]:
            rows.append(
                {
                    "task": results["task"],
                    "control": results.get("control", ""),
                    "halting": model["halting"],
                    "cap": model["num_hidden_layers"],
                    "tau": model["time_penalty"],
                    "epoch": epoch["epoch"],
                    "score": 100 * epoch["val/score"],
                    "depth": epoch["val/depth/all"],
                    # A control passes twice over each example, so its work is not the model's.
                    **{
                        name: math.nan if "control" in results else factor * epoch[f"val/{tag}_per_example"]
                        for name, tag, factor in (
                            *(("milliseconds", "seconds", 1000), ("iterations", "token_iterations", 1)),
                            ("gflops", "flops", 1e-9),
                        )
                    },
                }
            )
    epochs = pd.DataFrame(rows)
    by = ["task", "control", "halting", "cap", "tau"]
    means = epochs.groupby([*by, "epoch"]).score.mean().reset_index()
    best = means.loc[means.groupby(by).score.idxmax(), [*by, "epoch"]]
    return epochs.merge(best).groupby(by)[list(MEASURED)].agg(["mean", "std", "size"])


def test_the_points_are_those_of_a_groupby(runs, report):
    points, expected = pd.read_csv(report / "pareto.csv"), reference(runs)
    assert len(points) == len(expected) == 2 * (2 * 3 + 3) + 1
    for row in points.itertuples():
        control = "shuffled" if "shuffled" in row.family else ""
        if row.setting == "tau":
            key = (row.task, control, "act", int(re.search(r"cap (\d+)", row.family)[1]), row.value)
        else:
            key = (row.task, control, "fixed", row.value, 0.1)
        for name in MEASURED:
            mean, deviation, size = expected.loc[key][name]
            reach = t.ppf(0.975, size - 1) * deviation / math.sqrt(size) if size > 2 else math.nan
            for statistic, wanted in (("mean", mean), ("low", mean - reach), ("high", mean + reach)):
                assert getattr(row, f"{name}_{statistic}") == pytest.approx(wanted, rel=1e-4, abs=1e-3, nan_ok=True)
        assert row.runs == expected.loc[key]["score", "size"]


def test_lines(report):
    points = pd.read_csv(report / "pareto.csv")
    assert list(dict.fromkeys(points.task)) == ["cola", "rte"]
    lines = points[points.task == "rte"].groupby("family").value.agg(list).to_dict()
    assert lines == {
        "nano, adaptive, cap 6": [0.0, 0.001, 0.004],
        "nano, adaptive, cap 12": [0.0, 0.001, 0.004],
        "nano, control shuffled, adaptive, cap 12": [0.001],
        "nano, fixed depth": [1, 2, 10],
    }


def test_the_picture(report):
    text = Page(report / "pareto.html").text
    svg = text[text.index("<svg") : text.index("</svg>")]
    assert "<metadata" not in svg
    shown = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    for phrase in (
        *("CoLA: Matthews correlation (%)", "RTE: accuracy (%)", "mean depth (iterations per token)"),
        *("layer GFLOPs (per example)", "token-iterations (per example)"),
        *("time (ms per example, model forward)", "nano, adaptive, cap 6 (3 runs a point)"),
        "nano, control shuffled, adaptive, cap 12 (2 runs a point)",
    ):
        assert phrase in shown, phrase
    picture = matplotlib.image.imread(report / "pareto.png", format="png")[..., :3]
    for colour in COLOURS[:4]:  # of the four lines
        assert (np.abs(picture - to_rgb(colour)).max(axis=2) < 0.01).sum() > 100, colour


def test_what_was_not_measured_is_said(tmp_path):
    """Runs of before there was a time, and models without depth."""
    bert = {"checkpoint": "bert", "model_type": "bert", "halting": None, "time_penalty": None}
    write_run(tmp_path / "runs/a", [0.5, 0.6])
    run = write_run(tmp_path / "runs/b", [0.5, 0.7], model=bert)
    epochs = json.loads((run / "results.json").read_text())["epochs"]
    edit_results(run, epochs=[{n: v for n, v in e.items() if "depth" not in n} for e in epochs])
    pareto([str(tmp_path / "runs")], str(tmp_path / "report"))
    points = pd.read_csv(tmp_path / "report/pareto.csv").set_index("family")
    assert points.milliseconds_mean.isna().all() and list(points.depth_mean.isna()) == [True, False]
    page = (tmp_path / "report/pareto.html").read_text()
    assert "not measured" in page and "(1 run a point)" in page
    table = [line for line in (tmp_path / "report/pareto.md").read_text().splitlines() if "70.0" in line]
    assert len(table) == 1 and table[0].count(" - ") == 5


def test_differences_from_each_fixed_depth(runs, report):
    """Against the runs' own files; a control has two of the seeds, so no interval."""
    table = sections((report / "pareto.md").read_text())["Differences from fixed depth"].splitlines()
    header, _, *lines = (split(line) for line in table if line.startswith("|"))
    assert header[2:] == [f"nano, fixed depth, depth {depth}" for depth in (1, 2, 10)]
    cells = {line[1]: line[2:] for line in lines[-7:]}
    assert len(lines) == 6 + 7 and lines[6][0] == "RTE"

    def chosen(control, **model):
        """Scores by seed of the epoch that is best in the mean."""
        found = []
        for file in sorted(Path(runs).rglob("results.json")):
            results = json.loads(file.read_text())
            is_it = results["model"].items() >= model.items() and results.get("control") == control
            if results["task"] == "rte" and is_it:
                found.append((results["seed"], [100 * epoch["val/score"] for epoch in results["epochs"][1:]]))
        scores = np.array([of_epochs for _, of_epochs in sorted(found)])
        return scores[:, scores.mean(axis=0).argmax()]

    for number, depth in enumerate((1, 2, 10)):
        fixed = chosen(None, halting="fixed", num_hidden_layers=depth)
        ours = chosen(None, halting="act", num_hidden_layers=6, time_penalty=0.004)
        interval = ttest_rel(ours, fixed).confidence_interval()
        expected = f"{(ours - fixed).mean():+.1f} [{interval.low:+.1f}, {interval.high:+.1f}] (3)"
        assert cells["nano, adaptive, cap 6, tau 0.004"][number] == expected
        expected = f"{(chosen('shuffled') - fixed[:2]).mean():+.1f} (2)"
        assert cells["nano, control shuffled, adaptive, cap 12, tau 0.001"][number] == expected
