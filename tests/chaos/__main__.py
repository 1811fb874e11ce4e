"""`make chaos`: hits runs at random, from a seed, and prints what has become of them."""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from random import Random

from tests.chaos.faults import FAULTS, Outcome, Stage
from tests.chaos.runs import write_data

TRIES = {"kill -9": 24, "a signal": 12, "full disk": 6, "damaged last.ckpt": 6, "kill -9 of prepare": 4}
"""How often each fault is tried; others twice."""


def table(outcomes: dict[tuple[str, str], list[Outcome]]) -> str:
    """Fault by place: tries, those that survived, samples lost and repeated, and of those that went on the identical."""
    rows = [
        "| fault | place | tries | survived | samples lost | repeated | bit-identical |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for (fault, place), tries in sorted(
        outcomes.items(), key=lambda item: (list(FAULTS).index(item[0][0]), item[0][1])
    ):
        compared = [outcome.comparison for outcome in tries if outcome.comparison is not None]
        lost, repeated = (sum(getattr(one, name) for one in compared) for name in ("lost", "repeated"))
        same = f"{sum(not one.differences for one in compared)} of {len(compared)}" if compared else ""
        counts = [str(lost), str(repeated)] if compared else ["", ""]
        survived = sum(not outcome.wrong for outcome in tries)
        rows.append("| " + " | ".join([fault, place, str(len(tries)), str(survived), *counts, same]) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the tries, at least one of each fault")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS))
    options = parser.parse_args()
    outcomes: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=".") as folder:
        write_data(Path(folder) / "data")
        stage = Stage(Path(folder).resolve() / "data", Path(folder).resolve(), Random(options.seed))
        for fault in options.faults:
            for _ in range(max(1, round(TRIES.get(fault, 2) * options.share))):
                outcome = FAULTS[fault](stage)
                outcomes[fault, outcome.place].append(outcome)
                differences = outcome.comparison.differences if outcome.comparison else []
                print(
                    f"{time.monotonic() - began:6.0f} s  {fault}, {outcome.place}: {outcome.wrong + differences or 'survived'}",
                    flush=True,
                )
    print("\n" + table(outcomes))
    hurt = [
        one
        for tries in outcomes.values()
        for one in tries
        if one.wrong or (one.comparison and one.comparison.differences)
    ]
    return len(hurt) > 0


if __name__ == "__main__":
    sys.exit(main())
