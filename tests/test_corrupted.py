"""Sentences with an error put in: which are changed, and that the label says so."""

import csv
import sys

import pytest

from tests.benchmarks import corrupted

WRITTEN = [f"The {name} {verb} over the wall, and nobody saw it." for name in ("dog", "cat") for verb in ("ran", "sat")]


@pytest.mark.parametrize("each", [None, 3])
def test_every_other_is_changed_or_each(tmp_path, monkeypatch, each):
    (tmp_path / "corpus.txt").write_text("\n".join(WRITTEN))
    given = [*map(str, (tmp_path / "out.tsv", tmp_path / "corpus.txt")), *(["--each", str(each)] if each else [])]
    monkeypatch.setattr(sys, "argv", ["corrupted", *given])
    corrupted.main()
    with open(tmp_path / "out.tsv") as lines:
        rows = [*csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert all((row["sentence"] in WRITTEN) == (row["label"] == "1") for row in rows)
    assert [row["label"] for row in rows] == (["0"] * each * 4 if each else ["1", "0"] * 2)
    assert len({row["sentence"] for row in rows}) == len(rows)


def test_forms_are_of_one_stem():
    found = corrupted.forms({"walk", "walks", "walked", "king", "kings", "thing", "the"})
    assert found == {
        "walk": ["walked", "walks"],
        "walks": ["walk", "walked"],
        "walked": ["walk", "walks"],
        "king": ["kings"],
        "kings": ["king"],
    }
