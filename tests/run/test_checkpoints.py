"""Damaged checkpoints are noticed, and others stand in for them."""

import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depthlab.errors import UserError
from depthlab.run.checkpoints import damage, seal, whole_checkpoint
from depthlab.run.directory import RunDirectory


def write(file, step=0, sealed=True):
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": step, "state_dict": {"weight": torch.arange(20.0)}}, file)
    if sealed:
        seal(file)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    file = tmp_path_factory.mktemp("written") / "last.ckpt"
    write(file)
    return file.read_bytes(), file.with_name("damaged.ckpt")


def test_a_sealed_checkpoint_is_one_for_torch(tmp_path):
    write(tmp_path / "last.ckpt", step=3)
    assert damage(tmp_path / "last.ckpt") is None
    for mapped in (False, True):
        content = torch.load(tmp_path / "last.ckpt", weights_only=True, mmap=mapped)
        assert content["global_step"] == 3 and torch.equal(content["state_dict"]["weight"], torch.arange(20.0))
    assert zipfile.ZipFile(tmp_path / "last.ckpt").testzip() is None
    with pytest.raises(ValueError, match="without a comment"):
        seal(tmp_path / "last.ckpt")


@given(st.data())
def test_every_bit_counts(written, data):
    content, file = written
    position = data.draw(st.integers(0, 8 * len(content) - 1))
    changed = bytearray(content)
    changed[position // 8] ^= 1 << position % 8
    file.write_bytes(changed)
    assert damage(file)


def test_every_byte_counts(written):
    content, file = written
    for length in range(len(content)):
        file.write_bytes(content[:length])
        assert damage(file), length


def test_members_are_checked_where_there_is_no_seal(tmp_path):
    file = tmp_path / "other.ckpt"
    write(file, sealed=False)
    assert damage(file) is None
    content = bytearray(file.read_bytes())
    content[content.index(torch.arange(20.0).numpy().tobytes()) + 6] ^= 16
    file.write_bytes(content)
    assert damage(file) == "a checksum differs"


def test_what_stands_in(tmp_path, capfd):
    run = RunDirectory(tmp_path)
    assert whole_checkpoint(tmp_path) is None and whole_checkpoint(run.last) is None
    for step, file in enumerate((run.previous, run.last, run.best)):
        write(file, step)
    for named, taken in (
        (tmp_path, run.best),
        (run.best, run.best),
        (run.last, run.last),
        (run.previous, run.previous),
    ):
        assert whole_checkpoint(named) == taken
    assert capfd.readouterr().err == ""
    run.best.write_bytes(b"")
    assert whole_checkpoint(tmp_path) == run.last
    assert capfd.readouterr().err == f"{run.best} is damaged (it is empty): taking last.ckpt in its place\n"
    run.last.write_bytes(run.last.read_bytes()[:-5])
    for named, lines in ((run.best, 2), (run.last, 1)):
        assert whole_checkpoint(named) == run.previous
        assert len(capfd.readouterr().err.splitlines()) == lines
    run.last.unlink()
    assert whole_checkpoint(run.last) == run.previous
    run.previous.write_bytes(b"")
    with pytest.raises(UserError, match=r"previous\.ckpt is damaged \(it is empty\), and there is no other"):
        whole_checkpoint(run.last)
    write(tmp_path / "mine.ckpt")
    assert whole_checkpoint(tmp_path / "mine.ckpt") == tmp_path / "mine.ckpt"


def test_ranks_but_the_first_say_nothing(tmp_path, capfd, monkeypatch):
    run = RunDirectory(tmp_path)
    for file in (run.last, run.previous):
        write(file)
    run.last.write_bytes(b"")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert whole_checkpoint(run.last) == run.previous and capfd.readouterr().err == ""
