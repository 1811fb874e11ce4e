import hashlib
import json
import os
import shutil
import time

import pytest

from depthlab.data.corpora import digests
from depthlab.data.corpora.digests import INDEX, digest_files

CONTENT, CHANGED = b"One. Two.", b"One. 2wo."


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, as if they had lain there."""
    monkeypatch.setattr(digests, "SETTLED", 0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(CONTENT)
    time.sleep(0.02)  # longer than the steps in which this file system keeps times
    return path


def rewrite(file, old):
    file.write_bytes(CHANGED)


def rewrite_and_set_back(file, old):
    file.write_bytes(CHANGED)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))


def replace_by_one_as_old(file, old):
    other = file.with_name("b.txt")
    rewrite_and_set_back(other, old)
    other.replace(file)


def point_elsewhere(file, old):
    rewrite_and_set_back(file.with_name("b.txt"), old)
    file.unlink()
    file.symlink_to("b.txt")


@pytest.mark.parametrize("change", [rewrite, rewrite_and_set_back, replace_by_one_as_old, point_elsewhere])
def test_what_changed_is_read(settled, file, tmp_path, change):
    """To the same size each time."""
    assert digest_files([file], tmp_path) == [sha(CONTENT)]
    change(file, file.stat())
    assert digest_files([file], tmp_path) == [sha(CHANGED)]


def test_what_did_not_change_is_not_read(settled, file, tmp_path):
    assert digest_files([file], tmp_path / "cache") == [sha(CONTENT)]
    index = tmp_path / "cache" / INDEX
    known = json.loads(index.read_text())
    assert [*known] == [os.path.realpath(file)]
    known[os.path.realpath(file)][-1] = "kept"
    index.write_text(json.dumps(known))
    link = tmp_path / "link.txt"
    link.symlink_to(file)
    shutil.copy2(file, tmp_path / "copy.txt")
    assert digest_files([file, link, tmp_path / "copy.txt"], tmp_path / "cache") == ["kept", "kept", sha(CONTENT)]
    assert len(json.loads(index.read_text())) == 2


def test_a_file_that_was_changed_just_now_is_read_again(file, tmp_path):
    """It may change once more within the same step of its file system's clock."""
    assert digest_files([file], tmp_path) == [sha(CONTENT)]
    assert not (tmp_path / INDEX).exists()


@pytest.mark.parametrize("content", [None, "", "{", '{"a": '])
def test_without_an_index_files_are_read(settled, file, tmp_path, content):
    """There is none, it is damaged, or none can be written."""
    cache = tmp_path / "cache"
    if content is None:
        cache.write_text("a file, so no folder")
    else:
        cache.mkdir()
        (cache / INDEX).write_text(content)
    assert digest_files([file], cache) == [sha(CONTENT)]
    assert content is None or len(json.loads((cache / INDEX).read_text())) == 1
