"""Files of runs, and settings, that a hand or a disk has changed: a UserError, or it is as if nothing were."""

import copy
import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from depthlab.analysis.records import as_record
from depthlab.analysis.survey import survey
from depthlab.analysis.tokens import check_tokens, read_table
from depthlab.commands.catalogue import EXPERIMENTS
from depthlab.commands.experiment_cli import SettingsOnly
from depthlab.commands.refusals import refusals_in_a_line
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForPreTraining
from depthlab.models.checkpoint import load_as_saved
from depthlab.reports.trained import name_runs, trained_table
from depthlab.run.checkpoints import whole_checkpoint
from depthlab.run.config import with_bases, without_empty_sections
from depthlab.run.directory import RunDirectory, read_run
from depthlab.run.progress import read_progress
from depthlab.run.sweep.grid import Cell
from depthlab.run.sweep.state import CellRun
from tests.analysis.token_tables import token_table
from tests.models.exported import tiny_tokenizer
from tests.models.exported import write_run as write_checkpoint_run
from tests.models.variants import build
from tests.reports.synthetic import write_run
from tests.support import REPOSITORY

MANY = pytest.param(10_000, marks=pytest.mark.full)
FEW = 400
ODD = (
    *(
        None,
        True,
        False,
        0,
        -1,
        10**40,
        1.5,
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        " ",
        "\0",
        "~",
        "${",
        "${a}",
    ),
    *(
        "é\ud800",
        "x" * 10_000,
        [],
        [[]],
        [None],
        {},
        {"a": {}},
        {"": None},
        {1: 2},
        [1, "a", None],
        "2026-11-26",
        "1e400",
    ),
)
SNIPPETS = (
    b"\0",
    b"\xff\xfe",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"\n",
    b"&a *a",
    b"!!python/name:os.system ",
    b"- ",
)


def spoil_value(draw: random.Random, content):
    """A copy with something odd somewhere, or with something missing, or more than there was."""
    content = copy.deepcopy(content)
    places, queue = [], [content]
    while queue:
        one = queue.pop()
        keys = [*one] if isinstance(one, dict) else [*range(len(one))]
        places += [(one, key) for key in keys]
        queue += [one[key] for key in keys if isinstance(one[key], dict | list)]
    for _ in range(draw.randint(1, 3)):
        where, key = draw.choice(places)
        match draw.randrange(4):
            case 0 if isinstance(where, dict):
                where.pop(key, None)
            case 1 if isinstance(where, dict):
                where[draw.choice(("depth", "task", "a.b", "", *where))] = draw.choice(ODD)
            case _ if isinstance(where, dict) or key < len(where):
                where[key] = copy.deepcopy(draw.choice(ODD))
    return content


def spoil_bytes(draw: random.Random, content: bytes) -> bytes:
    """Cut off, bits flipped, a stretch doubled, taken out, or in its place what means something in some format."""
    content = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.randint(0, 40))
        match draw.randrange(5):
            case 0:
                del content[start:]
            case 1 if start < len(content):
                content[start] ^= 1 << draw.randrange(8)
            case 2:
                content[start:start] = content[start:end] * draw.choice((1, 50))
            case 3:
                del content[start:end]
            case _:
                content[start:end] = draw.choice(SNIPPETS) * draw.choice((1, 1, 1, 3000))
    return bytes(content)


def as_text(content) -> bytes:
    return json.dumps(content, default=str).encode(errors="replace")


def spoil_json(draw: random.Random, content) -> bytes:
    spoilt = as_text(spoil_value(draw, content)) if draw.random() < 0.7 else as_text(content)
    return spoilt if draw.random() < 0.6 else spoil_bytes(draw, spoilt)


def refused(action) -> bool:
    try:
        action()
    except UserError as error:
        assert "\n" not in str(error).strip()
        return True
    return False


@pytest.mark.parametrize("count", [FEW, MANY])
def test_files_of_a_run(tmp_path, count):
    """A report lists it as left out or reads it; a sweep's worker and `depthlab status` go on."""
    draw = random.Random(count)
    run, whole = write_run(tmp_path / "run", [0.5, 0.75]), write_run(tmp_path / "whole", [0.5], seed=1)
    (run / "model").mkdir(exist_ok=True)
    model = {"num_hidden_layers": 6, "halting": "act", "time_penalty": 0.1, "model_type": "adaptive_albert"}
    progress = {"state": "running", "doing": "a", "since": 1.0, "step": 1, "steps": 5, "seconds_left": None}
    progress |= {"measured": {"lr": 0.1}, "validated": 1, "reason": "", "written": 1.0}
    files = {
        "results.json": json.loads((run / "results.json").read_text()),
        "config.yaml": yaml.safe_load((run / "config.yaml").read_text()),
        "model/config.json": model,
        "progress.json": progress,
    }
    left_out = 0
    for _ in range(count):
        for name, content in files.items():
            (run / name).write_bytes(as_text(content))
        name = draw.choice([*files])
        (run / name).write_bytes(spoil_json(draw, files[name]))
        found = survey([str(tmp_path)])
        assert whole in [one.directory.path for one in found.runs]
        named, _ = name_runs(found.runs)
        trained_table(named)
        left_out += refused(lambda: as_record(read_run(run)))
        CellRun(Cell({}, "run"), tmp_path).outcome()
        read_progress(RunDirectory(run).progress)
    assert 0.2 * count < left_out < count


@pytest.mark.parametrize("count", [FEW, MANY])
def test_tables_in_parquet(tmp_path, count):
    """Of the bytes, and of the columns: another type, a value that is missing, a row twice."""
    draw = random.Random(count)
    table = token_table()
    file = tmp_path / "words.parquet"
    table.to_parquet(file)
    content = file.read_bytes()
    left_out = 0
    for _ in range(count):
        if draw.random() < 0.5:
            file.write_bytes(spoil_bytes(draw, content))
            left_out += refused(lambda: read_table(file))
        else:
            other, column = table.head(20).copy(), draw.choice([*table])
            match draw.randrange(4):
                case 0:
                    other = other.drop(columns=column)
                case 1:
                    other[column] = draw.choice(([1] * 20, ["a"] * 20, [None] * 20, [0.5] * 20, [[1]] * 20))
                case 2:
                    values = [*other[column]]
                    values[draw.randrange(20)] = draw.choice([one for one in ODD if one != "é\ud800"])  # Arrow has none
                    other[column] = values
                case _:
                    other = pd.concat([other, other.sample(draw.randint(0, 2), random_state=draw.randrange(2**31))])
            left_out += refused(lambda table=other: check_tokens(table, "words.parquet"))
    assert 0.3 * count < left_out


@pytest.mark.parametrize("count", [FEW, MANY])
def test_checkpoints(tmp_path, count):
    """Of the bytes, and of what a whole file holds: weights and settings that are missing, odd, or of another size."""
    draw = random.Random(count)
    torch.manual_seed(0)
    run = tmp_path / "run"
    write_checkpoint_run(run, build(AdaptiveAlbertForPreTraining), tiny_tokenizer(tmp_path))
    last = RunDirectory(run).last
    whole, content = last.read_bytes(), torch.load(last, weights_only=True)
    left_out = 0
    for _ in range(count):
        if draw.random() < 0.5:
            last.write_bytes(spoil_bytes(draw, whole))
        else:
            spoilt = content | {
                "model_config": dict(content["model_config"]),
                "state_dict": dict(content["state_dict"]),
            }
            part = draw.choice((spoilt, spoilt["model_config"], spoilt["state_dict"]))
            name = draw.choice([*part])
            match draw.randrange(3):
                case 0:
                    del part[name]
                case 1:
                    part[name] = draw.choice([one for one in ODD if one != 10**40])
                case _:
                    part[name] = torch.ones(draw.randint(0, 3), draw.randint(0, 3))
            torch.save(spoilt, last)
        left_out += refused(lambda: load_as_saved(str(whole_checkpoint(run) or run)))
    assert 0.5 * count < left_out


@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("name", ["glue", "own", "pretrain"])
def test_settings(tmp_path, monkeypatch, count, name):
    """A YAML upon another; every second one is no such thing any more."""
    draw = random.Random(count)
    shutil.copytree(REPOSITORY / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    experiment = yaml.safe_load(Path(f"experiments/{name}.yaml").read_text())
    layers = with_bases(["--config", f"experiments/{name}.yaml"])
    kind = yaml.safe_load(Path(layers[1]).read_text())["task"]
    cli = SettingsOnly("fit", EXPERIMENTS[kind], layers)
    left_out = 0
    for _ in range(count // (3 if count > FEW else 1)):
        Path("experiments/mine.yaml").write_bytes(spoil_json(draw, experiment | {"base": f"{name}.yaml"}))

        def parse():
            with refusals_in_a_line():
                cli.parse_arguments(
                    cli.parser, ["fit", *without_empty_sections(with_bases(["--config", "experiments/mine.yaml"]))]
                )

        left_out += refused(parse)
    assert left_out
