"""A report that replaces an earlier one takes the whole of it away, and nothing else."""

from depthlab.render.document import Document, Figure
from depthlab.render.publish import publish


def document(*figures):
    return Document("Crows", [Figure("A crow.", f"{name}.png", b"picture", "<svg></svg>") for name in figures])


def test_what_belongs_to_an_earlier_report_goes_with_it(tmp_path):
    publish("crows", str(tmp_path), document("one", "two"), [], {"crows.csv": "a\n1\n", "birds.csv": "b\n"})
    publish("other", str(tmp_path), document("three"), [], {})
    (tmp_path / "mine.png").write_bytes(b"precious")
    publish("crows", str(tmp_path), document("two"), [], {"crows.csv": "a\n2\n"})
    names = {path.name for path in tmp_path.iterdir()}
    crows, other = {"crows.md", "crows.html", "crows.csv", "two.png"}, {"other.md", "other.html", "three.png"}
    assert names == crows | other | {"mine.png"}
    assert (tmp_path / "crows.csv").read_text() == "a\n2\n"
