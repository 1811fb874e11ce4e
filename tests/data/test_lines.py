import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthlab.data import lines
from depthlab.data.lines import lines_of, read_lines, read_rows
from depthlab.errors import UserError


def read(content: bytes) -> list[tuple[int, str]]:
    return list(lines_of(io.BytesIO(content), "it"))


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_the_ends_of_lines(end, tmp_path):
    inside = "the\u2028old\u2029king\x85sat\x0bdown\x0cthere\x1cwhere\x1dhe\x1eused\xa0to\t"
    content = b"\xef\xbb\xbf" + end.join([b"first", inside.encode(), b"", b"last"])
    expected = [(1, "first\n"), (2, f"{inside}\n"), (3, "\n"), (4, "last")]
    assert read(content) == expected
    for name, stored in (
        ("a.txt", content),
        ("a.txt.gz", gzip.compress(content)),
        ("A.TXT.GZ", gzip.compress(content)),
    ):
        (tmp_path / name).write_bytes(stored)
        assert list(read_lines(tmp_path / name)) == expected


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))), st.sampled_from("\r\n"))
def test_every_text_comes_back(texts, end):
    content = "".join(f"{text}{end}" for text in texts).removeprefix("\ufeff")
    found = [line for _, line in read(content.encode())]
    assert "".join(found) == content.replace("\r", "\n")


@pytest.mark.parametrize("bad", [b"na\xefve", b"half \xed\xa0\x80", b"cut \xe2\x80"])
def test_what_is_not_utf_8_is_named(bad):
    with pytest.raises(UserError, match=r"^it, line 3: not valid UTF-8"):
        read(b"fine\n\n" + bad + b"\nfine")


def test_a_line_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1000)
    assert [number for number, _ in read(b"a" * 999 + b"\n" + b"b" * 999)] == [1, 2]
    with pytest.raises(UserError, match="it, line 2: of more than 1,000 characters"):
        read(b"fine\n" + b"a" * 5000)


def test_the_stream_stays_open():
    stream = io.BytesIO(b"one\ntwo\n")
    next(lines_of(stream, "it"))
    assert not stream.closed


def test_blank_lines_at_the_end_are_nothing(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"a\tb\n\nc\td\n\n \n\n")
    assert list(read_rows(tmp_path / "a.tsv", "it")) == [(1, "a\tb"), (2, ""), (3, "c\td")]
