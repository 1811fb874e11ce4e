"""What a report reads out of directories, and which runs are of one model."""

import json

import pytest
import yaml

from depthlab.analysis.choice import epochs_table
from depthlab.analysis.names import name_models, natural_order, shorten, tell_apart
from depthlab.analysis.records import as_record, read_records
from depthlab.analysis.survey import survey
from depthlab.errors import UserError
from depthlab.run.directory import read_run
from tests.reports.synthetic import MODEL, edit_results, write_run

DRAWN = {"train": 2490, "dev": 277}


def names_of(folder, suite="glue"):
    records, left_out = read_records(survey([str(folder)]), suite)
    assert not left_out
    return dict(zip([record.directory.name for record in records], name_models(tell_apart(records)), strict=True))


def test_a_record_has_what_the_run_has_left(tmp_path):
    write_run(tmp_path / "run", [0.5, 0.75], learning_rate=5e-5, batch_size=16, seed=3, token_iterations=77)
    record = as_record(read_run(tmp_path / "run"))
    assert (record.task, record.learning_rate, record.batch_size, record.seed) == ("rte", 5e-5, 16, 3)
    assert record.model == MODEL and (record.tokens, record.token_iterations) == (1000, 77)
    assert [epoch["val/score"] for epoch in record.epochs] == [0.5, 0.75]
    assert record.training["trainer.max_epochs"] == 4 and record.training["model.warmup_steps"] == 200
    assert record.data == {"train": 2490, "dev": 277}
    for name in record.training:
        assert name.rpartition(".")[2] not in ("lr", "batch_size", "seed", "root", "accelerator"), name


def test_without_depths_every_token_passes_all_layers(tmp_path):
    bert = dict.fromkeys(MODEL) | {"checkpoint": "bert", "model_type": "bert", "num_hidden_layers": 6}
    run = write_run(tmp_path / "run", [0.5], model=bert)
    edit_results(run, "token_iterations")
    assert as_record(read_run(run)).token_iterations == 6 * 1000


def test_null_was_not_measured(tmp_path):
    run = write_run(tmp_path / "run", [0.5])
    epochs = json.loads((run / "results.json").read_text())["epochs"]
    edit_results(run, epochs=[epoch | {"val/glue_score": None} for epoch in epochs])
    (record,), _ = read_records(survey([str(run)]), "glue")
    assert epochs_table([record], ["it"]).glue_score.isna().all()


def test_runs_lie_at_any_depth_and_count_once(tmp_path):
    write_run(tmp_path / "a", [0.5], seed=0)
    write_run(tmp_path / "sweep/deep/b", [0.5], seed=1)
    write_run(tmp_path / "sweep/b/model", [0.5], seed=2)
    records, left_out = read_records(survey([str(tmp_path), str(tmp_path / "a"), str(tmp_path / "sweep/../a")]), "glue")
    assert [record.seed for record in records] == [0, 2, 1] and not left_out


def broken(tmp_path):
    """Directories that can't be used, and what is said of each."""
    for name in ("json", "epochs", "field", "pretraining", "list", "yaml", "unsettled", "twice"):
        write_run(tmp_path / name, [0.5], seed=100 + len(name))
    (tmp_path / "json/results.json").write_text('{\n"task": rte}')
    edit_results(tmp_path / "epochs", epochs=[])
    edit_results(tmp_path / "pretraining", task=None)
    edit_results(tmp_path / "field", "learning_rate")
    (tmp_path / "list/results.json").write_text("[1]")
    (tmp_path / "yaml/config.yaml").write_text("a: [")
    (tmp_path / "unsettled/config.yaml").unlink()
    write_run(tmp_path / "unfinished", [0.5])
    (tmp_path / "unfinished/results.json").unlink()
    (tmp_path / "task=rte,lr=5e-05.log").touch()
    (tmp_path / "notes.log").touch()
    return {
        "json": "results.json, line 2: not JSON",
        "epochs": "no validated epoch",
        "field": "no 'learning_rate'",
        "pretraining": "its task is None, none of GLUE's or of probing",
        "list": "not what a run writes (it holds no names)",
        "yaml": "cannot be read",
        "unsettled": "no config.yaml",
        "unfinished": "unfinished or failed: it has no results.json",
        "task=rte,lr=5e-05": "(see ",
        "zz": "the same settings and seed as ",
    }


def test_what_is_left_out_is_listed(tmp_path):
    expected = broken(tmp_path)
    write_run(tmp_path / "zz", [0.5], seed=100 + len("twice"))
    records, left_out = read_records(survey([str(tmp_path)]), "glue")
    assert [record.directory.name for record in records] == ["twice"]
    found = {other.path.name: other.reason for other in left_out}
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in found[name], (name, found[name])


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match="no finished run of a GLUE task"):
        read_records(survey([str(tmp_path)]), "glue")
    broken(tmp_path / "broken")
    with pytest.raises(UserError, match=r"no finished run .*: .*no validated epoch"):
        read_records(survey([str(tmp_path / "broken/epochs")]), "glue")


def test_one_model_is_called_by_its_checkpoint_alone(tmp_path):
    """Whatever its learning rates; at fixed depth, whatever means nothing there."""
    for seed in range(2):
        write_run(tmp_path / f"adaptive/{seed}", [0.5], seed=seed, learning_rate=1e-5 * (seed + 1))
    for seed, changes in enumerate(({"time_penalty": 0.1}, {"act_update": "blend"}, {"act_epsilon": 0.2})):
        write_run(tmp_path / f"fixed/{seed}", [0.5], seed=seed, model={"halting": "fixed", **changes})
    for halting in ("adaptive", "fixed"):
        assert set(names_of(tmp_path / halting).values()) == {"nano"}


def test_names_show_what_differs(tmp_path):
    write_run(tmp_path / "a", [0.5])
    write_run(tmp_path / "b", [0.5], model={"time_penalty": 0.004})
    write_run(tmp_path / "c", [0.5], model={"halting": "fixed", "num_hidden_layers": 6})
    write_run(tmp_path / "d", [0.5], model={"act_update": "blend"})
    write_run(tmp_path / "e", [0.5], control="shuffled")
    write_run(tmp_path / "f", [0.5], settings={"model.depth.halting_bias_init": -4.0})
    assert names_of(tmp_path) == {
        "a": "nano, adaptive, cap 12, tau 0.001, accumulate",
        "b": "nano, adaptive, cap 12, tau 0.004, accumulate",
        "c": "nano, fixed depth, depth 6",
        "d": "nano, adaptive, cap 12, tau 0.001, blend",
        "e": "nano, control shuffled, adaptive, cap 12, tau 0.001, accumulate",
        "f": "nano, adaptive, cap 12, tau 0.001, accumulate, halting bias -4",
    }


def test_checkpoints_are_told_apart_by_as_much_as_it_takes(tmp_path):
    last = {
        "runs/one/model": "one",
        "runs/three/checkpoints/best.ckpt": "three",
        "albert/albert-base-v2": "albert-base-v2",
    }
    for folder, paths in ((tmp_path / "last", last), (tmp_path / "two", {"x/two": "x/two", "y/two": "y/two"})):
        for number, path in enumerate(paths):
            write_run(folder / str(number), [0.5], model={"checkpoint": path})
        assert [*names_of(folder).values()] == [*paths.values()]


def test_training_divides_a_model_only_where_it_differs_on_one_task(tmp_path):
    write_run(tmp_path / "a", [0.5], "rte", settings={"trainer.max_epochs": 3})
    write_run(tmp_path / "b", [0.5], "mnli", settings={"trainer.max_epochs": 1, "data.root": "elsewhere"})
    assert set(names_of(tmp_path).values()) == {"nano"}
    write_run(tmp_path / "c", [0.5], "rte", settings={"trainer.max_epochs": 5})
    assert names_of(tmp_path) == {"a": "nano, max_epochs 3", "b": "nano, max_epochs 1", "c": "nano, max_epochs 5"}


@pytest.mark.parametrize(
    ("settings", "results", "expected"),
    [
        ({"model.warmup_steps": 10}, {}, {"nano, warm-up 10", "nano, warm-up 200"}),
        ({}, {"data": DRAWN | {"train_drawn": 500}}, {"nano, training examples 500", "nano, training examples all"}),
        ({}, {"data": DRAWN | {"train_drawn": 2490}}, {"nano"}),
        ({"data.seed": 7}, {}, {"nano, data seed 7", "nano"}),
        ({"trainer.accelerator": "gpu", "data.cache_dir": "x", "run_dir": "y"}, {}, {"nano"}),
        ({"model.optimizer.class_path": "x.Lion"}, {}, {"nano, torch.optim.AdamW", "nano, x.Lion"}),
        ({"model.fixed_depth_steps": 0, "model.time_penalty_warmup_steps": 0}, {}, {"nano"}),
        ({"model.fixed_depth_steps": 9}, {}, {"nano, fixed_depth_steps 9", "nano"}),
        ({"trainer.precision": "bf16-mixed"}, {}, {"nano, precision 32-true", "nano, precision bf16-mixed"}),
    ],
)
def test_what_is_not_pooled(tmp_path, settings, results, expected):
    write_run(tmp_path / "a", [0.5], seed=0)
    write_run(tmp_path / "b", [0.5], seed=1, settings=settings, **results)
    assert set(names_of(tmp_path).values()) == expected


def test_your_own_task_is_told_apart_by_what_is_learnt(tmp_path):
    """Not by where a model is measured."""
    own = {"task": "own", "data.train": "a.tsv", "data.val": "dev.tsv", "data.test": None}
    write_run(tmp_path / "a", [0.5], seed=0, settings=own)
    other = {"data.val": "other.tsv", "data.test": "test.tsv"}
    write_run(tmp_path / "b", [0.5], seed=1, settings=own | other, data={"train": 2490, "dev": 30, "test": 5})
    assert set(names_of(tmp_path, "own").values()) == {"nano"}
    write_run(tmp_path / "c", [0.5], seed=2, settings=own | {"data.train": "b.tsv"})
    assert set(names_of(tmp_path, "own").values()) == {"nano, train a.tsv", "nano, train b.tsv"}


def test_a_configuration_may_leave_depth_out(tmp_path):
    run = write_run(tmp_path / "run", [0.5])
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["depth"] = None
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert as_record(read_run(run)).model == MODEL


def test_numbers_in_names_sort_as_numbers():
    names = ["tau 0.001", "tau 2.5e-05", "tau 0.00025", "depth 10", "depth 9"]
    assert sorted(names, key=natural_order) == ["depth 9", "depth 10", "tau 2.5e-05", "tau 0.00025", "tau 0.001"]


def test_runs_of_a_sweep_are_called_by_what_tells_them_apart():
    cells = {
        "data.task=rte,lr=5e-05,halting=act,num_hidden_layers=6,seed_everything=0": "rte, adaptive, cap 6",
        "data.task=rte,lr=5e-05,halting=fixed,num_hidden_layers=2,seed_everything=0": "rte, fixed depth, depth 2",
        "data.task=my%2Ccola,lr=5e-05,time_penalty=0.001,seed_everything=0": "my,cola, tau 0.001",
    }
    names = {f"runs/glue/{cell}/model": name for cell, name in cells.items()}
    assert shorten(names) == names
    alone = "runs/more/warmup_steps=10,lr=5e-05,max_epochs=2,seed_everything=3"
    others = {alone: "warm-up 10, learning rate 5e-05, max_epochs 2, seed 3", "runs/small": "small", "a=b,c": "a=b,c"}
    assert shorten([*names, *others]) == names | others
    twice = [f"{sweep}/task={task}" for sweep in ("one", "two") for task in ("rte", "cola")]
    assert list(shorten(twice).values()) == ["one/rte", "one/cola", "two/rte", "two/cola"]
    alike = ["runs/halting=act", "runs/halting=adaptive"]
    assert shorten(alike) == {path: path for path in alike}
