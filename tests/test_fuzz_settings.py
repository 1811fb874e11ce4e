"""Settings, checkpoints, and what runs say of themselves, changed by chance: UserErrors, or nothing comes of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from depthlab.commands.catalogue import EXPERIMENTS
from depthlab.commands.experiment import SettingsOnly
from depthlab.commands.refusals import refusals_in_a_line
from depthlab.data.benchmarks.own import OwnDataModule
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import load_as_saved
from depthlab.render.progress import line
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.config import with_bases, without_empty_sections
from depthlab.run.directory import RunDirectory
from depthlab.run.progress import read_progress
from depthlab.run.sweep.grid import Cell
from depthlab.run.sweep.state import CellRun, begin
from tests.data.benchmarks.own_fixtures import texts, write_bio, write_conllu, write_table
from tests.fuzz import INPUTS, VALUES, changed_bytes, changed_values, only_user_errors
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.variants import build
from tests.support import REPOSITORY


def changed(content, draw):
    """Values or bytes of it, in JSON, which is YAML, too."""
    values = changed_values(content, draw) if draw.random() < 0.7 else content
    text = json.dumps(values).encode()
    return text if draw.random() < 0.6 else changed_bytes(text, draw)


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("name", ["glue", "own", "pretrain"])
def test_settings(tmp_path, monkeypatch, inputs, name):
    """A YAML upon another; a third of 10,000 for each experiment."""
    shutil.copytree(REPOSITORY / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    mine = Path("experiments/mine.yaml")
    settings = yaml.safe_load(Path(f"experiments/{name}.yaml").read_text()) | {"base": f"{name}.yaml"}
    layers = with_bases(["--config", f"experiments/{name}.yaml"])
    cli = SettingsOnly("fit", EXPERIMENTS[yaml.safe_load(Path(layers[1]).read_text())["task"]], layers)

    def read(content):
        mine.write_bytes(content)
        with refusals_in_a_line():
            arguments = without_empty_sections(with_bases(["--config", str(mine)]))
            cli.parse_arguments(cli.parser, ["fit", *arguments])

    only_user_errors(read, inputs // (1 if inputs < 1000 else 3), lambda draw: changed(settings, draw), name)


@pytest.mark.parametrize("inputs", INPUTS)
def test_checkpoints(tmp_path, inputs):
    """Bytes; and what a whole file holds: weights and settings that are missing, odd, or of another size."""
    torch.manual_seed(0)
    run = tmp_path / "run"
    write_run(run, build(AdaptiveAlbertForPreTraining), tiny_tokenizer(tmp_path))
    last = RunDirectory(run).last
    whole, content = last.read_bytes(), torch.load(last, weights_only=True)
    values = [value for value in VALUES if value != 10**400]  # which no tensor file holds

    def make(draw):
        if draw.random() < 0.5:
            return changed_bytes(whole, draw)
        parts = {name: dict(content[name]) for name in ("model_config", "state_dict")}
        part = draw.choice([content | parts, *parts.values()])
        name = draw.choice([*part])
        if draw.random() < 0.3:
            del part[name]
        else:
            part[name] = draw.choice([*values, torch.ones(draw.randint(0, 3), draw.randint(0, 3))])
        return part if "state_dict" in part else content | parts

    def read(given):
        if isinstance(given, bytes):
            last.write_bytes(given)
        else:
            torch.save(given, last)
        load_as_saved(str(whole_checkpoint(run) or run))

    only_user_errors(read, inputs, make)


PROGRESS = {"state": "running", "doing": "training", "since": 1.0, "step": 1, "steps": 5, "seconds_left": None}
PROGRESS |= {"measured": {"lr": 0.1, "train/loss/total": 3}, "validated": 1, "reason": "", "written": 1.0}


@pytest.mark.parametrize("inputs", INPUTS)
def test_what_a_sweep_reads(tmp_path, inputs):
    """A worker goes on, whatever has become of a cell's results, or of what the run says of itself."""
    run = CellRun(Cell({}, "run"), tmp_path)
    run.directory.path.mkdir()
    results = {"val/score": 0.5, "steps": 3, "epochs": [{"epoch": 1, "val/score": 0.5}]}

    def read(content):
        run.directory.results.write_bytes(content[0])
        run.directory.progress.write_bytes(content[1])
        (tmp_path / "sweep.json").write_bytes(content[2])
        if (progress := read_progress(run.directory.progress)) is not None:
            line(progress)
        if isinstance(run.outcome(), str):
            raise UserError(run.outcome())
        begin(tmp_path, [run], {"a": 1})

    only_user_errors(read, inputs, lambda draw: [changed(part, draw) for part in (results, PROGRESS, {"a": 1})])


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".bio", ".conllu"])
def test_your_own_files(tmp_path, inputs, suffix):
    files = [tmp_path / f"{name}{suffix}" for name in ("train", "dev")]
    for file in files:
        if suffix in (".bio", ".conllu"):
            {".bio": write_bio, ".conllu": write_conllu}[suffix](file, 0, 6)
        else:
            write_table(file, ["text", "label"], texts(6, 0))
    content = files[0].read_bytes()

    def read(changed):
        files[0].write_bytes(changed)
        module = OwnDataModule(train=str(files[0]), val=str(files[1]))
        assert module.labels and module.metrics and module.read()["train"].texts[0]

    only_user_errors(read, inputs, lambda draw: changed_bytes(content, draw), suffix)
