"""The tables of the pages: each has a name and commands, and a number made again is held against the printed one."""

import re

import pytest

from tests.benchmarks.results import (
    FACTS,
    PAGES,
    QUICK,
    REPOSITORY,
    SHARED,
    Printed,
    compare,
    environment,
    judge,
    make,
    read_results,
)

TEXTS = {page: (REPOSITORY / page).read_text() for page in PAGES}
RESULTS, FAULTS = read_results(TEXTS)
QUICK_ONES = [name for name, result in RESULTS.items() if result.is_compared and result.seconds <= QUICK]
FIRST = "```sh\n# TABLE={}; takes 2 min; on 2 cores; commit none; seeds 0, 1; tokens 1 M{}\n"
BLOCK = FIRST + "echo $OUT # remark\n# more\n```\n"
TABLE = "\n| a | x |\n|---|---:|\n| b | 1 |\n"


def test_every_table_of_numbers_has_a_name_that_has_commands():
    assert not FAULTS
    assert QUICK_ONES
    for result in RESULTS.values():
        assert set(FACTS) <= result.facts.keys(), result.name
        assert result.seconds > 0 and result.commands
        assert result.facts["commit"] == "none" or re.fullmatch("[0-9a-f]{7}", result.facts["commit"])
        assert set(re.findall(r"\$([A-Z]+)", result.commands)) <= {"OUT", "DATA", "MINILM"}, result.name


def test_every_section_is_found_by_a_question():
    """Which a table at the top has; an entry that is superseded says by which."""
    text = TEXTS[PAGES[0]]
    questions = text[text.index("## Questions") : text.index("## How to make")]
    entries = re.findall(r"^## (\d{4}-.*)$", text, re.MULTILINE)
    for entry in entries:
        section = text[text.index(f"## {entry}") :].split("\n## ")[0]
        headings = re.findall(r"^#+ (.*)$", re.sub("```sh.*?```", "", section, flags=re.DOTALL), re.MULTILINE)
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert any(f"(#{anchor})" in questions for anchor in anchors), entry
    for found in re.finditer(r"^#+ .*\(superseded\)\n\n(.*)", text, re.MULTILINE):
        assert found[1].startswith("Superseded by ["), found[0]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (BLOCK.format("one", "") + TABLE, []),
        (TABLE, ["log: a table has no name: | a | x |"]),
        (BLOCK.format("one", "") + "# Next\n" + TABLE, ["log: a table has no name: | a | x |"]),
        (BLOCK.format("one", "") + BLOCK.format("one", ""), ["log: one is there twice"]),
        ("<!-- TABLE=two -->\n" + TABLE, ["log: two has no commands", "log: a table has no name: | a | x |"]),
        ("| a | x |\n|---|---|\n| b | words |\n", []),
    ],
)
def test_faults(text, faults):
    assert read_results({"log": text})[1] == faults


def test_what_a_page_says():
    pages = {"log": BLOCK.format("one", "; within interval; this run = 3 M") + TABLE, "page": "- <!-- no -->\n"}
    pages["page"] += "  <!-- TABLE=one; within 0.5 -->\n\n" + TABLE.replace("1", "2")
    (result,) = read_results(pages)[0].values()
    assert result.commands == "echo $OUT # remark\n" and result.seconds == 120
    assert result.facts["seeds"] == "0, 1" and result.facts["this run"] == "3 M"
    assert [(table.text.strip().splitlines()[-1], table.facts["within"]) for table in result.printed] == [
        ("| b | 1 |", "interval"),
        ("| b | 2 |", "0.5"),
    ]


@pytest.mark.parametrize(
    ("printed", "made", "within", "agrees"),
    [
        ("2.66 [2.63, 2.78]", "2.70 [2.60, 2.80]", "interval", True),
        ("2.66 [2.63, 2.78]", "2.62", "interval", False),
        ("**-0.11 [-0.16, -0.07]**", "-0.08", "interval", True),
        ("35.6", "35.64", "interval", True),
        ("35.6", "35.75", "interval", False),
        ("35.6", "36.0", "0.5", True),
        ("29,870", "29,870", "interval", True),
        ("29,870", "29,872", "interval", False),
        ("1.0", "-", "interval", False),
    ],
)
def test_when_a_number_is_the_printed_one(printed, made, within, agrees):
    page = Printed(f"| model | depth |\n|---|---:|\n| here | {printed} |\n", {"within": within})
    count, differences = compare(page, f"# Made\n\n| label | x: depth (iterations) |\n|---|---:|\n| here | {made} |\n")
    assert count == 1 and (not differences) == agrees


def test_rows_and_columns_are_found_by_their_names():
    """Turned round, renamed, with two names of a row of which the first stands once; what was not made is not held."""
    printed = "| | ours | paper |\n|---|---:|---:|\n| depth | 1.5 | 3.8 |\n| score (%) | 40.0 | 55.4 |\n"
    made = "| model | depth | score |\n|---|---:|---:|\n| this run | 1.5 | 41.0 |\n"
    count, differences = compare(Printed(printed, {"within": "interval", "this run": "ours"}), made)
    assert count == 2 and differences == ["score (%) / ours: printed 40.0, made 41.0"]
    printed = "| task | model | x |\n|---|---|---:|\n| RTE | a | 1 |\n| | b | 2 |\n"
    made = "| what | RTE, a | RTE, b |\n|---|---:|---:|\n| x | 1 | 3 |\n"
    count, differences = compare(Printed(printed, {"within": "interval"}), made)
    assert count == 2 and differences == ["RTE, b / x: printed 2, made 3"]


def test_commands_run_in_a_shell(tmp_path):
    """What they print, and the Markdown that they leave, is held against the page; a failing one ends it."""
    commands = "printf '| a | x |\\n|---|---:|\\n| b | %s |\\n' 1.04 > $OUT/a.md\n"
    page = "```sh\n# TABLE=one; takes 1 s; on any; commit none; seeds none; tokens none; within 0.01\n" + commands
    (result,) = read_results({"log": page + "```\n" + TABLE})[0].values()
    assert list(judge(result, make(result, tmp_path / "out"))) == [
        "differs  b / x: printed 1, made 1.04",
        "1 numbers compared with the pages",
    ]
    assert next(judge(result, "nothing")) == "differs  none of its numbers was made"


def test_columns_with_a_heading_over_them():
    """Of which the page has a part; the other's column of the same name is not taken for it."""
    made = "| r | a: alone | held | b: alone | held |\n|---|---:|---:|---:|---:|\n| x | 1 | 2 | 3 | 4 |\n"
    printed = "| r | a: held | b: held |\n|---|---:|---:|\n| x | 2 | 2 |\n"
    count, differences = compare(Printed(printed, {"within": "interval"}), made)
    assert count == 2 and differences == ["x / b: held: printed 2, made 4"]


@pytest.mark.full
@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", QUICK_ONES)
def test_quick_ones_are_what_is_printed(name, tmp_path):
    assert "DATA" in environment()
    assert not [line for line in judge(RESULTS[name], make(RESULTS[name], tmp_path)) if line.startswith("differs")]
