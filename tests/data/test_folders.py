"""Which files of a folder are read, by every command that walks one, and what is said of the others."""

import gzip

import pytest

from depthlab.analysis.survey import survey
from depthlab.data.corpora.corpus import CorpusSource, find_files
from depthlab.data.folders import files_at
from depthlab.data.treebanks.treebank import as_files
from depthlab.data.treebanks.trees import treebank_files
from depthlab.errors import UserError
from depthlab.files import files_in

WALKERS = {
    "txt": lambda folder: find_files(CorpusSource(folder)),
    "conllu": lambda folder: as_files(folder, "data.treebank"),
    "ptb": lambda folder: treebank_files([folder]),
}


@pytest.mark.parametrize("suffix", WALKERS)
def test_all_files_of_a_kind_and_no_others(tmp_path, capsys, suffix):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    for file in (
        *(folder / f"a.{suffix}", folder / f"B.{suffix.upper()}", folder / f"c.{suffix}.gz", elsewhere / f"d.{suffix}"),
        *(folder / f".hidden.{suffix}", folder / f"._a.{suffix}", folder / f".ipynb_checkpoints/e.{suffix}"),
        *(folder / "notes.md", folder / "deep/er/image.png", folder / f"deep/er/f.{suffix}"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(b"") if file.suffix == ".gz" else b"")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked again").symlink_to(elsewhere)
    (folder / "deep/circle").symlink_to(folder)
    (folder / f"lost.{suffix}").symlink_to(tmp_path / "nowhere")
    for _ in range(2):
        found = [str(file.relative_to(folder)) for file in WALKERS[suffix](str(folder))]
        names = {f"a.{suffix}", f"B.{suffix.upper()}", f"c.{suffix}.gz", f"linked/d.{suffix}", f"deep/er/f.{suffix}"}
        assert {*found} == names and len(found) == 5 and found == sorted(found)
    assert capsys.readouterr().err == f"{folder}: 5 files; left out: 3 hidden, 2 of other kinds\n", "said once"
    assert WALKERS[suffix](str(folder / f"B.{suffix.upper()}")) == [folder / f"B.{suffix.upper()}"]


@pytest.mark.parametrize("suffix", WALKERS)
def test_where_there_is_none(tmp_path, suffix):
    (tmp_path / "notes.md").touch()
    for place, message in ((tmp_path, "no file ends in"), (tmp_path / "notes.md", "this kind of file")):
        with pytest.raises(UserError, match=message):
            WALKERS[suffix](str(place))
    with pytest.raises(UserError, match="no such file or folder; correct"):
        WALKERS[suffix](str(tmp_path / f"no.{suffix}"))


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(*arguments, onerror, **others):
        onerror(PermissionError(13, "Permission denied"))

    monkeypatch.setattr("os.walk", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\); .*correct data\.corpus"):
        files_at(tmp_path, [".txt"], "data.corpus")
    with pytest.raises(PermissionError):
        files_in(tmp_path)


def test_reports_look_into_linked_folders(tmp_path):
    for name in ("runs/a", "elsewhere/b", "runs/.unfinished"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").write_text("task: glue\n")
    (tmp_path / "runs/linked").symlink_to(tmp_path / "elsewhere")
    found = [str(other.path.relative_to(tmp_path)) for other in survey([str(tmp_path / "runs")]).left_out]
    assert found == ["runs/a", "runs/linked/b"]
