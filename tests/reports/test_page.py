"""The page about runs, against what was put into the runs' directories."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.figure import Figure as Canvas
from torch.utils.tensorboard import SummaryWriter

from depthlab.analysis.survey import survey
from depthlab.cli import main
from depthlab.commands.report import page
from depthlab.errors import UserError
from depthlab.render.depth_curves import depth_curves
from depthlab.reports import trained
from depthlab.reports.trained import name_runs, trained_table
from depthlab.run.logs import read_scalars
from tests.analysis.token_tables import token_table
from tests.reports.pages import Page, cells, sections
from tests.reports.synthetic import write_run
from tests.support import error_of, write_checkpoint

CAP, STEPS = 4, 40
SIMILARITY = {"plain": (0.5, 0.75, 1.0), "cls": (0.25, 0.5, 0.75, 0.875)}
"""By kind and iteration."""


def depth_of(kind, step):
    return {"plain": 2.0, "cls": 4.0, "all": 3.0}[kind] - step / 100


def write_fixed_point(run, step, similarity):
    """All readings of a validation, as the monitor appends them."""
    columns = ("fixed_point", "fixed_point_running", "fixed_point_layer")
    rows = [
        {"step": step, "kind": kind, "n": n} | dict.fromkeys(columns, value) | {"fixed_point_tokens": 1000 // n}
        for kind, values in similarity.items()
        for n, value in enumerate(values, start=1)
    ]
    file = run / "fixed_point.csv"
    pd.DataFrame(rows).to_csv(file, mode="a", header=not file.exists(), index=False)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run of pre-training that was resumed: its steps from 20 on were logged twice."""
    run = tmp_path_factory.mktemp("runs") / "small"
    corpus = ["texts/novels", {"path": "hub/wikipedia", "name": "20231101"}]
    config = {"task": "pretraining", "data": {"corpus": corpus}, "model": {}, "trainer": {"log_every_n_steps": 10}}
    write_checkpoint(run / "model")
    for first, shift in ((0, 1.0), (20, 0.0)):
        with SummaryWriter(str(run)) as writer:
            for step in range(first, STEPS, 10):
                wrong = shift if step >= 20 else 0.0
                for kind in ("plain", "cls", "all"):
                    writer.add_scalar(f"train/depth/{kind}", depth_of(kind, step) + wrong, step)
                writer.add_scalar("train/time_penalty", step / 1e5, step)
    write_fixed_point(run, STEPS, SIMILARITY)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    results = {"steps": STEPS, "tokens": 1_000_000, "token_iterations": 3_000_000, "seconds": 120.0}
    results |= {"data": {"documents": 1234, "tokens": 5_600_000}, "val/accuracy/mlm": 0.297}
    results |= {"val/depth/cls": 3.93, "val/depth_low/cls": 3.9, "val/depth_high/cls": 3.98}
    (run / "results.json").write_text(json.dumps(results))
    return run


def test_scalars_are_as_logged_and_the_later_of_two_counts(pretrained):
    scalars = read_scalars(pretrained)
    for kind in ("plain", "cls", "all"):
        curve = scalars[f"train/depth/{kind}"]
        assert curve.index.tolist() == [0, 10, 20, 30]
        assert curve.tolist() == pytest.approx([depth_of(kind, step) for step in curve.index])


def test_the_curves_are_what_was_logged(pretrained):
    scalars = read_scalars(pretrained)
    depths, tau = depth_curves(scalars, "small").axes
    drawn = {line.get_label(): line for line in depths.lines}
    assert drawn.keys() == {"plain", "cls", "all"}
    for kind, line in drawn.items():
        assert line.get_ydata() == pytest.approx([depth_of(kind, step) for step in line.get_xdata()])
    assert tau.lines[0].get_ydata() == pytest.approx([0, 1e-4, 2e-4, 3e-4])
    assert depths.get_xlabel() == "optimiser step" and "iterations" in depths.get_ylabel() and "tau" in tau.get_ylabel()
    flat = scalars | {"train/time_penalty": 0 * scalars["train/time_penalty"]}
    assert len(depth_curves(flat, "fixed").axes) == 1, "an axis for nothing"


def test_one_page_of_everything(pretrained, tmp_path):
    folder = tmp_path / "runs <b>"
    shutil.copytree(pretrained, folder / "small")
    tuned = write_run(folder / "rte", [0.5, 0.625], "rte")
    write_checkpoint(tuned / "model")
    token_table().to_parquet(folder / "words.parquet")
    (folder / "broken").mkdir()
    shutil.copy(tuned / "config.yaml", folder / "broken")
    page([str(folder)], str(tmp_path / "report"))
    found = sections((tmp_path / "report/page.md").read_text())
    assert list(found) == [
        *("What was trained", "Depth by kind of token", "Depth while training", "Fixed point", "GLUE"),
        *("Your own tasks", "Probing", "Which words", "Sentences", "What is left out"),
    ]

    row = cells(found["What was trained"], "small")
    assert row[1:5] == ["pretraining", "cap 4, tau 0.0005", "-", "novels, wikipedia: 1,234 documents, 5.6 M tokens"]
    assert row[5:] == ["40", "1.00", "2.0", "8,333", "3.00", "25.0"], "3 of 4 million token-iterations at the cap"
    row = cells(found["What was trained"], tuned.name)
    assert row[1] == "glue: rte" and row[4:6] == ["2,490 train, 277 dev", "20"], "all steps, not those of the best"
    assert cells(found["Depth by kind of token"], "MLM accuracy (%)")[1:3] == ["29.70", "55.4"]
    assert cells(found["Depth by kind of token"], "[CLS]")[1:3] == ["3.93 [3.90, 3.98]", "6.0"]
    assert "depth-1.png" in found["Depth while training"] and "250,000 tokens" in found["Depth while training"]
    assert "fixed-point-1.png" in found["Fixed point"] and "step 40" in found["Fixed point"]
    assert "62.5" in found["GLUE"]
    assert found["Probing"].startswith("Left out: ") and "probing" in found["Probing"]
    assert "nsubj" in found["Which words"]
    pretraining, rte = found["Sentences"].split("\n### ")[1:]
    assert "pairs of texts" in rte and "pairs of texts" not in pretraining
    assert pretraining.count("mean depth") == rte.count("mean depth") == 4
    assert "[MASK], piece" in pretraining
    assert "broken: unfinished" in found["What is left out"]

    parsed = Page(tmp_path / "report/page.html")
    assert all(len(set(rows)) <= 2 for rows in parsed.tables), "rows of a table are alike, but where a cell spans some"
    html = parsed.text
    assert html.count("<svg") >= 2 and "runs &lt;b&gt;/broken" in html and "runs <b>" not in html
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"page.md", "page.html", "depth-1.png", "fixed-point-1.png"} <= names
    page([str(tuned)], str(tmp_path / "report"))  # an earlier report may be replaced


def test_the_fixed_point_is_of_the_last_validation_alone(pretrained, tmp_path, monkeypatch):
    """In an earlier one a plain token ran in the last iteration; in the last none did."""
    run = shutil.copytree(pretrained, tmp_path / "small")
    write_fixed_point(run, STEPS - 10, {"plain": [0.125] * CAP})
    drawn = []
    monkeypatch.setattr(trained, "fixed_point_panels", lambda tables, tokens: drawn.append(tables) or Canvas())
    runs, _ = name_runs(survey([str(run)]).runs)
    (figure,) = trained.fixed_point_figures(runs)
    table = drawn[0]["fixed_point_running"]
    assert table.shape == (7, CAP) and f"step {STEPS}:" in figure.caption
    assert table[0].tolist() == pytest.approx([*SIMILARITY["plain"], np.nan], nan_ok=True)
    assert table[4].tolist() == pytest.approx(SIMILARITY["cls"]) and torch.isnan(table[1]).all()


def test_sections_without_anything_say_what_they_want(tmp_path, capsys):
    write_run(tmp_path / "runs/rte", [0.5, 0.625], "rte")
    main(["report", str(tmp_path / "runs"), "--to", str(tmp_path / "report")])
    found = sections(capsys.readouterr().out)
    wanted = {
        "Depth by kind of token": "pre-training",
        "Depth while training": "logged",
        "Fixed point": "FixedPointMonitor",
        "Probing": "probing",
        "Which words": "depthlab predict --config experiments/treebank.yaml",
        "Sentences": "adaptive",
    }
    for title, hint in wanted.items():
        assert found[title].startswith("Left out: ") and hint in found[title], title
    assert cells(found["What was trained"], "rte")[2] == "-"


def test_tables_count_once_and_what_is_none_is_listed(tmp_path, capsys):
    folder = tmp_path / "runs"
    write_run(folder / "rte", [0.5])
    write_run(folder / "again", [0.5])
    write_run(folder / "sweep/lr=1", [0.5], learning_rate=1.0)
    (folder / "sweep/lr=2.log").write_text("depthlab: error: no such folder")
    token_table().assign(depth=6).to_parquet(folder / "words.parquet")
    (tmp_path / "link.parquet").symlink_to(folder / "words.parquet")
    pd.DataFrame({"text": ["of others"]}).to_parquet(folder / "foreign.parquet")
    page([str(folder), f"{folder}/rte/../words.parquet", str(tmp_path / "link.parquet")], str(tmp_path / "report"))
    found = sections((tmp_path / "report/page.md").read_text())
    assert cells(found["What was trained"], "learning rate 1")[1] == "glue: rte"
    html = (tmp_path / "report/page.html").read_text()
    assert f'title="{folder}/sweep/lr=1">learning rate 1</th>' in html
    assert found["Which words"].count("has depth 6") == 1 and "Left out" not in found["Which words"]
    listed = dict(line.removeprefix(f"- {folder}/").split(": ", 1) for line in found["What is left out"].splitlines())
    assert listed.keys() == {"rte", "sweep/lr=2", "foreign.parquet"}
    assert "same settings" in listed["rte"] and "lr=2.log" in listed["sweep/lr=2"]
    assert listed["foreign.parquet"].startswith("the table has no column model")

    capsys.readouterr()
    for file, expected in ((folder / "foreign.parquet", "no column model"), (folder / "sweep/lr=2.log", "not a table")):
        page([str(folder), str(file)], str(tmp_path / "report"))
        assert expected in sections((tmp_path / "report/page.md").read_text())["What is left out"]
        message = error_of(capsys, ["report", str(file), f"--to={tmp_path}/other"])
        assert f"{file}: " in message and expected in message and not (tmp_path / "other").exists()


CHANGED = {
    "config.yaml": {
        "a list for a mapping": lambda config: config["model"].update(depth=[1]),
        "a mapping for a name": lambda config: config["model"].update(checkpoint={"path": "x"}),
        "no mapping": lambda config: config.update(data=None),
        "text that can't be written": lambda config: config["trainer"].update(precision="\ud800"),
    },
    "results.json": {
        "a score in words": lambda results: results["epochs"][0].update({"val/score": "high"}),
        "a validation without its step": lambda results: results["epochs"][0].pop("step"),
        "an endless count": lambda results: results.update(tokens=10**400),
        "no list": lambda results: results.update(epochs={"1": 0.5}),
        "counts in words": lambda results: results["data"].update(dev=["many"]),
    },
}


@pytest.mark.parametrize(
    ("file", "change"), [(file, change) for file, changes in CHANGED.items() for change in changes]
)
def test_a_run_that_was_changed_by_hand_is_left_out(tmp_path, file, change):
    write_run(tmp_path / "runs/whole", [0.5, 0.625])
    changed = write_run(tmp_path / "runs/changed", [0.5, 0.75], seed=1) / file
    read, write = (json.loads, json.dumps) if file == "results.json" else (yaml.safe_load, yaml.safe_dump)
    content = read(changed.read_text())
    CHANGED[file][change](content)
    changed.write_text(write(content))
    page([str(tmp_path / "runs")], str(tmp_path / "report"))
    found = sections((tmp_path / "report/page.md").read_text())
    assert "62.5" in found["GLUE"] and "75.0" not in found["GLUE"]
    assert f"runs/changed: {file}" in found["What is left out"]


def test_bad_paths(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="gone does not exist"):
        page([str(tmp_path / "gone")], str(tmp_path / "report"))
    message = error_of(capsys, ["report", str(tmp_path / "empty"), f"--to={tmp_path}/report"])
    assert "neither a finished run nor a table" in message and not (tmp_path / "report").exists()
    with pytest.raises(UserError, match="no run"):
        trained_table([])


WRONG = {
    "foreign": (lambda config, results: config.pop("task"), "config.yaml has no 'task'"),
    "no steps": (lambda config, results: results.update(steps=None, epochs=None), "is not what a run writes"),
    "no seconds": (lambda config, results: results.pop("seconds"), "has no 'seconds': it is not a run of this version"),
    "no data": (lambda config, results: results.pop("data"), "has no 'data'"),
    "other data": (lambda config, results: results.update(data=[1]), "is not what a run writes"),
    "no corpus": (lambda config, results: config["data"].pop("corpus"), "has no 'corpus'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_run_that_lacks_something_is_listed(pretrained, tmp_path, name):
    change, reason = WRONG[name]
    write_run(tmp_path / "good", [0.5])
    run = tmp_path / "bad"
    run.mkdir()
    config = yaml.safe_load((pretrained / "config.yaml").read_text())
    results = json.loads((pretrained / "results.json").read_text())
    change(config, results)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "results.json").write_text(json.dumps(results))
    found = survey([str(tmp_path)])
    runs, unnamed = name_runs(found.runs)
    assert [run.name for run in runs] == ["good"]
    assert [(other.path.name, reason in other.reason) for other in found.left_out + unnamed] == [("bad", True)]


def test_a_run_counts_once_and_has_a_name_however_it_is_named(tmp_path, monkeypatch):
    run = write_run(tmp_path / "runs/rte", [0.5])
    (tmp_path / "link").symlink_to(run)
    monkeypatch.chdir(run)
    for paths in ([".", "../rte", str(run)], [str(tmp_path / "link"), "."], [str(tmp_path), str(run)]):
        runs, _ = name_runs(survey(paths).runs)
        assert len(runs) == 1 and runs[0].name in ("rte", "link"), paths
