"""What is written all or not at all."""

import os
import signal

import pytest

from depthlab.errors import UserError
from depthlab.files import all_or_nothing, beside, check_new, check_own, make_writable, writing


def found(folder):
    """Contents of all files, by path."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("before", [{}, {"report": "old"}])
def test_a_file_appears_when_it_is_complete(tmp_path, before):
    for name, content in before.items():
        (tmp_path / name).write_text(content)
    with all_or_nothing(tmp_path / "report") as unfinished:
        unfinished.write_text("new")
        assert unfinished.parent == tmp_path, "a rename is atomic on one file system only"
        assert found(tmp_path) == {**before, unfinished.name: "new"}
    assert found(tmp_path) == {"report": "new"}


@pytest.mark.parametrize("before", [{}, {"report": "old"}])
@pytest.mark.parametrize("exception", [OSError, KeyboardInterrupt])
def test_an_exception_leaves_what_was_there(tmp_path, before, exception):
    for name, content in before.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(exception), all_or_nothing(tmp_path / "report") as unfinished:
        unfinished.write_text("half of it")
        raise exception
    assert found(tmp_path) == before and len(list(tmp_path.iterdir())) == len(before)


def test_folders(tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(ValueError), all_or_nothing(tmp_path / "model") as unfinished:
        unfinished.mkdir()
        (unfinished / "weights").write_text("half of them")
        raise ValueError
    assert list(tmp_path.rglob("*")) == [tmp_path / "model"]
    for content, kept in (("all", "all"), ("others", "all")):  # a folder with something in it is not replaced
        try:
            with all_or_nothing(tmp_path / "model") as unfinished:
                unfinished.mkdir()
                (unfinished / "weights").write_text(content)
        except OSError:
            assert content == "others"
        assert found(tmp_path) == {"model/weights": kept}


def test_nothing_written_is_an_error(tmp_path):
    (tmp_path / "report").write_text("old")
    with pytest.raises(FileNotFoundError), all_or_nothing(tmp_path / "report"):
        pass
    assert found(tmp_path) == {"report": "old"}


def test_a_folder_is_replaced_where_that_is_wanted(tmp_path):
    for content in ("old", "new"):
        with all_or_nothing(tmp_path / "model", replaces_folder=True) as unfinished:
            unfinished.mkdir()
            (unfinished / "weights").write_text(content)
    with pytest.raises(OSError), all_or_nothing(tmp_path / "model", replaces_folder=True) as unfinished:
        raise OSError
    assert found(tmp_path) == {"model/weights": "new"} and len(list(tmp_path.iterdir())) == 1


def test_one_line_for_the_user(tmp_path):
    (tmp_path / "notes").write_text("mine")
    for refused in (
        lambda: check_new("--to", tmp_path),
        lambda: check_new("--to", tmp_path / "notes"),
        lambda: make_writable("to --to", tmp_path / "notes"),
        lambda: make_writable("to --to", tmp_path / "notes/below"),
        lambda: writing("the report to --to", tmp_path / "notes/below").__enter__(),
    ):
        with pytest.raises(UserError, match=rf"^(cannot write .*|--to) {tmp_path}.*(exists|directory)"):
            refused()
    with writing("the report", tmp_path / "made/for/it") as unfinished:
        unfinished.write_text("complete")
    check_new("--to", tmp_path / "nothing")
    make_writable("to --to", tmp_path / "made")
    assert found(tmp_path) == {"notes": "mine", "made/for/it": "complete"}


def test_a_file_of_its_own_may_be_replaced(tmp_path):
    (tmp_path / "page").write_text("<!-- MARK -->")
    for name in ("page", "new"):
        check_own("--to", tmp_path / name, b"MARK", "page of ours")
    (tmp_path / "notes").write_text("mine")
    for name, message in {"notes": "is no page of ours", ".": "is no page of ours", "no/page": "no folder"}.items():
        with pytest.raises(UserError, match=rf"^--to {tmp_path}.*{message}"):
            check_own("--to", tmp_path / name, b"MARK", "page of ours")


def test_what_a_killed_process_left_is_cleared_up(tmp_path):
    """Names say whose they are: a child that is killed in the midst of it leaves them."""

    def die_in_the_midst(target, replaces):
        child = os.fork()
        if child == 0:
            with all_or_nothing(target, replaces) as unfinished:
                unfinished.mkdir()
                (unfinished / "weights").write_text("half of them")
                if replaces:
                    target.rename(beside(target, "old"))
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)

    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").write_text("old")
    die_in_the_midst(tmp_path / "other", replaces=False)
    die_in_the_midst(tmp_path / "model", replaces=True)
    assert len(found(tmp_path)) == 2, "the first was cleared up by the second"
    with all_or_nothing(tmp_path / "report") as unfinished:
        unfinished.write_text("new")
        with all_or_nothing(tmp_path / "second") as another:
            another.write_text("of a process that lives")
    assert found(tmp_path) == {"model/weights": "old", "report": "new", "second": "of a process that lives"}
    assert len(list(tmp_path.iterdir())) == 3
