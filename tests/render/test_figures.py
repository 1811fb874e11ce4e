"""Pictures in a page: which colours are its own, that nothing clashes, and that the file beside it stays as it was."""

import io
import re
from xml.etree import ElementTree

import matplotlib.image
import pytest
from matplotlib.figure import Figure as Canvas

from depthlab.render.figures import COLOURS, LINE, embed, no_formula


@pytest.fixture(scope="module")
def pictures():
    """Two that differ in their file only."""
    canvas = Canvas(figsize=(3, 2))
    axes = canvas.subplots()
    axes.errorbar([1, 2], [3, 5], yerr=[1, 1], marker="o", color=COLOURS[0], label="measured")
    axes.plot([1, 2], [4, 4], marker="P", color="black", label="black")
    axes.set(xlabel="iteration $n$", title="Depth")
    axes.grid(color=LINE)
    axes.legend()
    return [embed(canvas, "What it shows.", file) for file in ("one.png", "other.png")]


def test_colours_are_those_of_the_page(pictures):
    svg = pictures[0].svg
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
    assert colours - {"#cccccc"} == {COLOURS[0].lower(), "var(--ink)", "var(--paper)", "var(--line)"}  # a legend's edge
    root = ElementTree.fromstring(svg)
    texts = [element for element in root.iter() if element.tag.endswith("text")]
    assert root.get("style") == "fill: var(--ink)" and {"Depth", "measured"} <= {text.text for text in texts}
    assert not any("fill" in text.get("style", "") for text in texts)  # they have the root's


def test_names_do_not_clash(pictures):
    names = []
    for picture in pictures:
        root = ElementTree.fromstring(picture.svg)
        own = [element.get("id") for element in root.iter() if element.get("id")]
        references = re.findall(r"(?:url\(|href=\")#([^)\"]+)", picture.svg)
        assert len(references) > 5 and set(references) <= set(own)
        names += own
    assert len(names) == len(set(names))


def test_a_name_is_no_formula():
    for name in (r"a $\frac$ b", "$x_$", "5 $"):
        canvas = Canvas(figsize=(2, 1))
        canvas.subplots().set_title(no_formula(name))
        assert f">{name}</text>" in embed(canvas, "What it shows.", "one.png").svg.replace("\n", "")


def test_the_network_is_not_needed(pictures):
    assert "<metadata" not in pictures[0].svg and not re.search(r"href=\"http|url\((?!#)|@import", pictures[0].svg)


def test_the_file_is_black_on_white(pictures):
    picture = matplotlib.image.imread(io.BytesIO(pictures[0].png), format="png")
    assert picture.shape == (300, 450, 4) and picture[0, 0].tolist() == [1, 1, 1, 1]
    assert (picture[..., :3].max(axis=2) < 0.05).sum() > 100
