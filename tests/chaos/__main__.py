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


HEADING = ("fault", "place", "tries", "survived", "samples lost", "repeated", "bit-identical")


def table(outcomes: dict[tuple[str, str], list[Outcome]]) -> str:
    """Faults by place; what is said of samples and bits is of the runs that went on to their end."""
    rows = [HEADING, ("---", "---", *["---:"] * 5)]
    order = list(FAULTS)
    for fault, place in sorted(outcomes, key=lambda name: (order.index(name[0]), name[1])):
        tries = outcomes[fault, place]
        compared = [outcome.comparison for outcome in tries if outcome.comparison is not None]
        survived = sum(not outcome.wrong for outcome in tries)
        counts = ["", "", ""]
        if compared:
            same = sum(not one.differences for one in compared)
            counts = [
                sum(one.lost for one in compared),
                sum(one.repeated for one in compared),
                f"{same}/{len(compared)}",
            ]
        rows.append((fault, place, len(tries), survived, *counts))
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the tries, at least one of each fault")
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS))
    options = parser.parse_args()
    outcomes: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    began, hurt = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        stage = Stage(Path(folder) / "data", Path(folder), Random(options.seed))
        write_data(stage.data)
        for fault in options.faults:
            for _ in range(max(1, round(TRIES.get(fault, 2) * options.share))):
                outcome = FAULTS[fault](stage)
                outcomes[fault, outcome.place].append(outcome)
                hurt += not outcome.unhurt
                said = "survived" if outcome.unhurt else f"HURT {outcome}"
                print(f"{time.monotonic() - began:6.0f} s  {fault}, {outcome.place}: {said}", flush=True)
    print("\n" + table(outcomes))
    return hurt > 0


if __name__ == "__main__":
    sys.exit(main())
