"""The door: commands are names until they are called; what there is not is said in a line, with what is near."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

from depthlab.cli import EXPERIMENTS, FUNCTIONS, find, main
from depthlab.commands.experiment import read_settings
from depthlab.models.checkpoint import SHIPPED, find_tokenizer
from tests.support import REPOSITORY, error_of

HELP = {
    "fit": ["L, the cap", "Sequences of an optimiser step", "--run_dir", "--ckpt_path"],
    "validate": ["--ckpt_path"],
    "prepare": ["ahead of time"],
    "export": ["--checkpoint", "safetensors"],
    "data": ["probing", "treebanks"],
    "data probing": ["--treebank", "CoNLL-U", "brackets", "--to"],
    "sweep": ["--config", "--run_dir", "--retry_failed", "takes the axis' place"],
    "status": ["RUNS [RUNS ...]", "folders that hold some"],
    "replay": ["Directory of the run", "--accelerator"],
    "report glue": ["RUNS [RUNS ...]", "--to", "glue.html"],
    "report probing": ["RUNS [RUNS ...]", "--to", "probing.html"],
    "report treebank": ["TABLES [TABLES ...]", "--to", "treebank.html"],
    "submission": ["RUNS [RUNS ...]", "--model", "must not exist yet"],
    "inspect": ["TEXT", "--html", "halting probabilities"],
}


@pytest.mark.parametrize("command", HELP)
def test_help_reads_like_documentation(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        main([*command.split(), "--help"])
    assert not exit_.value.code
    text = " ".join(capsys.readouterr().out.split())
    for phrase in HELP[command]:
        assert phrase in text, phrase


@pytest.mark.parametrize("arguments_", [[], ["qqq", "--to", "out"]])
def test_a_command_must_be_named(capsys, arguments_):
    message = error_of(capsys, arguments_)
    assert all(command in message for command in ("fit", "prepare", "sweep", "export", "inspect", "report"))


def test_what_an_extra_brings_is_named(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "depthlab.commands.parser", raising=False)
    monkeypatch.setitem(sys.modules, "jsonargparse", None)  # importing it fails as if it were not installed
    message = error_of(capsys, ["status", "runs"])
    assert "`depthlab status` needs jsonargparse" in message and "pip install 'depthlab[train]'" in message


def test_what_ships_goes_by_its_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pretrain/tiny.yaml", "experiments/pretrain/tiny.yaml"):
        assert read_settings([f"--config={name}"])["run_dir"] == "checkpoints/runs/tiny"
    for name in SHIPPED:
        assert Path(find_tokenizer(name)) == REPOSITORY / name
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/tiny.yaml").write_text("run_dir: mine\n")
    assert read_settings(["--config=pretrain/tiny.yaml"])["run_dir"] == "mine", "a file of the user's comes first"


NEAR = {
    "exprot --to out": "did you mean export?",
    "fit --config experiments/pretrain.yaml --data.batch_sice=8": "did you mean --data.batch_size?",
    "validate --config experiments/glue.yaml --rundir x": "did you mean --run_dir?",
    "report glue runs --tto x": "did you mean --to?",
    "fit --config near.yaml": "did you mean --data.batch_size?",
}


@pytest.mark.parametrize("command", NEAR)
def test_a_near_miss_is_named(capsys, tmp_path, monkeypatch, command):
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    (tmp_path / "near.yaml").write_text("data: {batch_sice: 8}\n")
    monkeypatch.chdir(tmp_path)
    assert NEAR[command] in error_of(capsys, command.split())


QUICK = "import sys; from depthlab.cli import main\ntry: main(sys.argv[1:])\nfinally: print(*sys.modules)"


@pytest.mark.parametrize("command", ["--help", "--version", "fitt"])
def test_what_needs_no_command_imports_none(command):
    result = subprocess.run([sys.executable, "-c", QUICK, command], capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    heavy = {"torch", "transformers", "lightning", "numpy", "pandas", "jsonargparse", "huggingface_hub"}
    assert "depthlab" in loaded and not heavy & loaded


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*")
def test_the_help_says_what_the_docstrings_say(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    for name, summary in (EXPERIMENTS | FUNCTIONS).items():
        assert f"  {name} " in shown and summary in shown
    for name, summary in FUNCTIONS.items():
        command = find(name)
        module = import_module(f"depthlab.commands.{name}")
        docstring = module.__doc__.partition(": ")[2] if isinstance(command, dict) else command.__doc__
        assert docstring.lower().startswith(summary.lower().removesuffix(".")), name


def test_the_version(capsys):
    """The installed one's, which reads it in the same place."""
    main(["--version"])
    assert capsys.readouterr().out == f"depthlab {version('depthlab')}\n"


@pytest.mark.parametrize("arguments_", [["--checkpoint", "no.ckpt", "--to", "out"], []])
def test_export_refuses(capsys, arguments_):
    assert "checkpoint" in error_of(capsys, ["export", *arguments_])
