"""Experiments: every one parses, bad settings get one line, nothing is overwritten."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from depthlab.cli import main
from depthlab.commands.experiment import SettingsOnly, read_settings, run_experiment
from depthlab.models import AdaptiveAlbertConfig
from tests.support import REPOSITORY, error_of, pretraining

EXPERIMENTS = sorted((REPOSITORY / "experiments").rglob("*.yaml"))


def parsed(capsys, *command, name="fit"):
    """The configuration that a command would run with."""
    with pytest.raises(SystemExit) as exit_:
        main([name, *command, "--print_config"])
    assert not exit_.value.code
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_parses(capsys, path):
    command = {"treebank": "predict", "similarity": "validate"}.get(path.stem, "fit")
    config = parsed(capsys, "--config", str(path), name=command)
    assert "${" not in yaml.dump(config), "every interpolation is resolved"
    if "config" in config["model"]:
        model = AdaptiveAlbertConfig(**config["model"]["config"])
        assert model.vocab_size == config["data"]["vocab_size"]
    else:
        assert "tokenizer" not in config["data"], "it is the checkpoint's"
    assert config["run_dir"].startswith("checkpoints/runs/")


@pytest.mark.parametrize(
    "path", sorted(REPOSITORY.glob("checkpoints/*/training.yaml")), ids=lambda path: path.parent.name
)
def test_what_trained_a_shipped_model_parses(capsys, path):
    """Its card gives the command; the settings are those of today."""
    parsed(capsys, "--config", str(path), "--run_dir", "checkpoints/runs/again")


def test_a_run_directory_may_follow_from_other_settings():
    """Its checkpoints are linked to it before interpolations are resolved."""
    arguments_ = ["--config", str(REPOSITORY / "experiments/glue.yaml"), "--data.task", "rte", "--seed_everything=3"]
    config = run_experiment("fit", arguments_, SettingsOnly).config.fit
    assert config.run_dir == "checkpoints/runs/glue/rte"
    assert config.checkpoint.directory == "checkpoints/runs/glue/rte/checkpoints"
    settings = read_settings(arguments_)
    assert settings["run_dir"] == config.run_dir and settings["data"]["seed"] == 3


PAPER = {  # Table 1 and the protocol of PAPER.md
    "tiny": {"num_hidden_layers": 6, "time_penalty": 1e-3},
    "small": {"num_hidden_layers": 12, "time_penalty": 5e-4},
    "base": {"num_hidden_layers": 24, "time_penalty": 2.5e-4},
    "albert": {"num_hidden_layers": 12, "halting": "fixed", "num_hidden_groups": 1, "embedding_size": 128},
    "bert": {"num_hidden_layers": 12, "halting": "fixed", "num_hidden_groups": 12, "embedding_size": 768},
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_models_have_the_papers_hyper_parameters(capsys, name):
    config = parsed(capsys, "--config", str(REPOSITORY / f"experiments/pretrain/{name}.yaml"))
    expected = {
        "vocab_size": 30000,
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 512,
        "initializer_range": 0.02,
        "act_epsilon": 0.01,
        "act_cap": "truncate",
        "act_update": "blend",
        "halting_bias_init": 0.0,
        **PAPER[name],
    }
    model, data, trainer = config["model"], config["data"], config["trainer"]
    assert {key: model["config"][key] for key in expected} == expected
    assert model["optimizer"]["class_path"] == "depthlab.optim.Lamb"
    lamb = model["optimizer"]["init_args"]
    assert (lamb["lr"], lamb["betas"], lamb["eps"], lamb["weight_decay"]) == (1.76e-3, [0.9, 0.999], 1e-6, 0.01)
    assert (model["warmup_steps"], trainer["max_steps"], data["batch_size"]) == (3125, 112_500, 4096)
    assert (model["time_penalty_warmup_steps"], model["fixed_depth_steps"]) == (0, 0)
    assert (data["max_length"], data["mask_ratio"], data["max_predictions"]) == (128, 0.2, 20)
    assert (trainer["gradient_clip_val"], data["short_sequence_probability"]) == (1.0, 0.1)


def test_layers_interpolation_and_command_line_combine(capsys, tmp_path):
    (tmp_path / "lower.yaml").write_text(
        "data: {vocab_size: 500}\nmodel: {config: {vocab_size: '${data.vocab_size}', hidden_size: 24}}\n"
    )
    (tmp_path / "upper.yaml").write_text("base: lower.yaml\nmodel: {config: {num_hidden_layers: 3}}\n")
    config = parsed(capsys, "--config", str(tmp_path / "upper.yaml"), "--data.vocab_size", "700")["model"]["config"]
    assert (config["vocab_size"], config["hidden_size"], config["num_hidden_layers"]) == (700, 24, 3)


def test_layers_that_lead_in_a_circle(capsys, tmp_path):
    (tmp_path / "one.yaml").write_text("base: two.yaml\n")
    (tmp_path / "two.yaml").write_text("base: one.yaml\n")
    assert "one.yaml" in error_of(capsys, ["fit", "--config", str(tmp_path / "one.yaml")])


BAD_SETTINGS = {
    "model.config.time_penalty": (-0.1, "time_penalty"),
    "model.config.act_epsilon": (1.5, "act_epsilon"),
    "model.config.act_epsilonn": (0.1, "act_epsilonn"),
    "model.fixed_depth_steps": (-1, "fixed_depth_steps"),
    "model.fixed_depth": (99, "model.fixed_depth must be from 1 to the cap"),
    "data.mask_ratio": (1.5, "mask_ratio"),
    "data.corpus": ("no/such/folder", "no/such/folder"),
    "data.batch_size": (0, "batch_size"),
    "model.config.max_position_embeddings": (16, "max_position_embeddings"),
    "model.config.vocab_size": (99, "vocab_size"),
    "model.config.hidden_size": (-16, "hidden_size"),
    "trainer.max_steps": ("many", "max_steps"),
    "trainer.limit_train_batches": (3, "accumulate_grad_batches"),
    "task": ("glue", "YAML"),
    "config": ("no/such.yaml", "no/such.yaml"),
    "ckpt_path": ("last", "does not exist"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_bad_setting_gets_one_line(capsys, corpus, tmp_path, name):
    value, expected = BAD_SETTINGS[name]
    run_dir = tmp_path / "run"
    pieces = {"trainer__accumulate_grad_batches": 2}
    assert expected in error_of(capsys, [*pretraining(run_dir, corpus, **pieces), f"--{name}={value}"])
    assert not list(run_dir.rglob("*.ckpt"))


def test_a_run_is_never_overwritten(capsys, corpus, tmp_path):
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "checkpoints/last.ckpt").write_bytes(b"precious")
    assert "--ckpt_path last" in error_of(capsys, pretraining(run_dir, corpus))
    assert [path.name for path in run_dir.iterdir()] == ["checkpoints"]
    assert (run_dir / "checkpoints/last.ckpt").read_bytes() == b"precious"


HOLD = """import fcntl, sys
with open(sys.argv[1], "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print(), input()
"""


def test_two_processes_never_train_one_run(capsys, corpus, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    command = [sys.executable, "-u", "-c", HOLD, str(run_dir / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"\n"
        assert "another process" in error_of(capsys, pretraining(run_dir, corpus))
        assert [path.name for path in run_dir.iterdir()] == [".lock"]
        holder.kill()
    main([*pretraining(run_dir, corpus), "--trainer.max_steps=1"])
    assert (run_dir / "results.json").exists()
    main([*pretraining(run_dir, corpus), "--trainer.max_steps=2", "--ckpt_path=last"])


def test_a_run_that_goes_on_is_what_it_is(capsys, corpus, tmp_path):
    """Refused settings change nothing; from the first step on it has no results, until it has ended again."""
    run_dir = tmp_path / "run"
    main([*pretraining(run_dir, corpus), "--trainer.max_steps=1"])
    before = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}
    other = ["--trainer.max_steps=2", "--ckpt_path=last", "--model.config.act_epsilon=0.3"]
    assert "act_epsilon" in error_of(capsys, [*pretraining(run_dir, corpus), *other])
    after = {path.name: path.read_bytes() for path in run_dir.iterdir() if path.is_file()}
    assert {name: after[name] for name in before} == before
    interrupt = ["--trainer.callbacks+=tests.support.InterruptAt", "--trainer.callbacks.batches=1"]
    with pytest.raises(SystemExit):
        main([*pretraining(run_dir, corpus), "--trainer.max_steps=3", "--ckpt_path=last", *interrupt])
    assert not (run_dir / "results.json").exists()


def test_another_runs_checkpoint_does_not_overwrite_this_run(capsys, corpus, tmp_path):
    (tmp_path / "other.ckpt").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/results.json").touch()
    assert "not a checkpoint" in error_of(
        capsys, [*pretraining(tmp_path / "run", corpus), f"--ckpt_path={tmp_path}/other.ckpt"]
    )
    torch.save({}, tmp_path / "other.ckpt")
    assert "holds a run" in error_of(
        capsys, [*pretraining(tmp_path / "run", corpus), f"--ckpt_path={tmp_path}/other.ckpt"]
    )


STOPS = {
    "early stopping": (
        8,  # the second validation: a falling loss is no better where more is
        1,
        "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping",
        "--trainer.callbacks.monitor=val/loss/mlm",
        "--trainer.callbacks.mode=max",
        "--trainer.callbacks.patience=1",
    ),
    "a timer within a step": (4, 2, "--trainer.callbacks+=tests.support.StopAt", "--trainer.callbacks.batches=7"),
}


@pytest.mark.parametrize("name", STOPS)
def test_whoever_stops_a_run_loses_nothing(corpus, tmp_path, name):
    steps, accumulate, *options = STOPS[name]
    main([*pretraining(tmp_path / "run", corpus, trainer__accumulate_grad_batches=accumulate), *options])
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == steps
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] == steps
    assert f"{steps} steps" in (tmp_path / "run/model/README.md").read_text()


def test_other_loggers_stand_beside_tensorboards(capsys, corpus, tmp_path):
    run_dir = tmp_path / "run"
    given = ["--trainer.max_steps=1", "--trainer.logger=lightning.pytorch.loggers.CSVLogger"]
    main([*pretraining(run_dir, corpus), *given, f"--trainer.logger.save_dir={tmp_path}/csv"])
    assert [*tmp_path.glob("csv/**/metrics.csv")] and [*run_dir.glob("events.*")]
    assert "can't be false" in error_of(capsys, [*pretraining(tmp_path / "other", corpus), "--trainer.logger=false"])


def test_nothing_need_be_logged(corpus, tmp_path):
    main([*pretraining(tmp_path / "run", corpus), "--trainer.max_steps=1", "--trainer.log_every_n_steps=0"])
    assert (tmp_path / "run/results.json").exists()


def test_a_share_of_an_epoch_would_cut_a_step(capsys, corpus, tmp_path):
    message = error_of(
        capsys,
        [
            *pretraining(tmp_path / "run", corpus, trainer__accumulate_grad_batches=2),
            "--trainer.limit_train_batches=0.5",
        ],
    )
    assert "trainer.limit_train_batches 0.5" in message and not (tmp_path / "run/config.yaml").exists()


def test_an_experiment_must_be_named(capsys):
    assert "--config" in error_of(capsys, ["fit"])
    assert "--config" in error_of(capsys, ["fit", "--config"])


def test_a_run_directory_that_cannot_be_written(capsys, corpus, tmp_path):
    (tmp_path / "file").touch()
    assert "--run_dir" in error_of(capsys, pretraining(tmp_path / "file/run", corpus))


def test_the_repository_names_no_machine():
    """Paths of a machine have no place in settings."""
    for path in EXPERIMENTS:
        assert str(Path.home()) not in path.read_text() and os.getcwd() not in path.read_text()
