"""Checkpoints are whole: on another file system's $TMPDIR, on a full disk, with two processes."""

import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import distributed

from depthlab.callbacks import BestCheckpoint, Resumable, WholeCheckpoints
from depthlab.cli import main
from depthlab.errors import UserError
from tests.disk import files_of_at_most
from tests.support import fork_ranks, pretraining, quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


class Scored(BoringModel):
    """Whose score grows, so that every validation is the best."""

    depth_has_its_price = True

    def on_validation_epoch_end(self):
        self.log("val/score", float(self.global_step))


def trainer(folder, writer, **settings):
    last = folder / "checkpoints/last.ckpt"
    best = BestCheckpoint(last.with_name("best.ckpt"), last, "val/score")
    settings |= {"max_steps": 4, "val_check_interval": 2, "limit_val_batches": 1, "enable_checkpointing": True}
    return quiet_trainer(callbacks=[Resumable(str(last.parent), every_n_steps=2), best], plugins=[writer], **settings)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_goes_through_tmpdir(tmp_path, monkeypatch):
    """Where files are made under another name, they lie beside their place."""
    opened = []
    sys.addaudithook(lambda event, about: event == "open" and opened.append(str(about[0])))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as elsewhere:
        monkeypatch.setenv("TMPDIR", elsewhere)
        monkeypatch.setattr(tempfile, "tempdir", None)  # where it was remembered
        trainer(tmp_path, WholeCheckpoints()).fit(Scored())
        assert names(Path(elsewhere)) == [] and not any(path.startswith(elsewhere) for path in opened)
    checkpoints = tmp_path / "checkpoints"
    assert names(checkpoints) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert any(path.startswith(f"{checkpoints}/.best.ckpt.unfinished") for path in opened)
    for name in names(checkpoints):
        assert torch.load(checkpoints / name, weights_only=True)["global_step"] == 4


def test_a_full_disk_leaves_the_old_one(tmp_path):
    """What torch raises then is no OSError."""
    written, larger = {"weights": torch.ones(3)}, {"weights": torch.zeros(2**20)}
    WholeCheckpoints().save_checkpoint(written, tmp_path / "last.ckpt")
    message = r"cannot write the checkpoint .*last\.ckpt: File too large"
    with files_of_at_most(2**20), pytest.raises(UserError, match=message):
        WholeCheckpoints().save_checkpoint(larger, tmp_path / "last.ckpt")
    assert names(tmp_path) == ["last.ckpt"]
    assert torch.equal(torch.load(tmp_path / "last.ckpt")["weights"], written["weights"])


def test_a_run_on_a_full_disk_ends_in_one_line(corpus, tmp_path, capsys):
    main(["prepare", *pretraining(tmp_path / "run", corpus)[1:]])
    with files_of_at_most(20_000), pytest.raises(SystemExit) as stopped:
        main(pretraining(tmp_path / "run", corpus, checkpoint__every_n_steps=1))
    assert stopped.value.code == 2
    last = tmp_path / "run/checkpoints/last.ckpt"
    assert f"depthlab: error: cannot write the checkpoint {last}: File too large\n" in capsys.readouterr().err
    assert names(last.parent) == []


class Noted(WholeCheckpoints):
    """Knows what it was asked for."""

    def __init__(self):
        self.asked = []

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        self.asked.append(path)
        super().save_checkpoint(checkpoint, path, storage_options)


def run_rank(rank, folder):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    writer = Noted()
    trainer(folder, writer, devices=2, strategy="ddp").fit(Scored())
    assert bool(writer.asked) == (rank == 0)
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    distributed.destroy_process_group()


def test_of_two_processes_one_saves(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    fork_ranks(run_rank, tmp_path)
    assert names(tmp_path / "checkpoints") == ["best.ckpt", "last.ckpt", "previous.ckpt"]
