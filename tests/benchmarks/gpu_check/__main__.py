"""Is depthlab right and fast on this GPU? (`make gpu-check`)

python -m tests.benchmarks.gpu_check --out DIR [--minutes 8] [--parts equality,syncs] [--glue FOLDER]

Prints Markdown as it comes and writes it to DIR/gpu-check.md, beside profiles and logs. A part that fails says so, and
the others go on. Without a GPU everything is of toy size, which only shows that the check works.
"""

import argparse
import importlib
import platform
import signal
import time
import traceback
from pathlib import Path

import torch
import transformers

from tests.benchmarks.gpu_check.bench import Bench

PARTS = {  # the function, imported when its turn comes, and its share of the time
    "equality": ("equality.check", 1.0),
    "syncs": ("waits.check", 0.6),
    "throughput": ("throughput.check", 3.0),
    "fit": ("runs.fit", 2.5),
    "glue": ("runs.glue", 1.5),
    "compiled": ("throughput.check_compiled", 2.5),
}
GRACE = 15
"""Seconds over its time after which a part is ended."""


def main(arguments: list[str] | None = None) -> None:
    """Run the parts; what one does not need of its time the later ones have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/runs/gpu-check"))
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts; measurements beyond are left out")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in their order")
    parser.add_argument("--glue", type=Path, help="a folder with MRPC/train.tsv and MRPC/dev.tsv")
    args = parser.parse_args(arguments)
    parts = args.parts.split(",")
    for part in parts:
        if part not in PARTS:
            parser.error(f"--parts: there is no {part!r}, only {', '.join(PARTS)}")
    signal.signal(signal.SIGALRM, _out_of_time)
    bench = Bench(args.out.resolve(), args.minutes, args.glue and args.glue.resolve())
    device = torch.cuda.get_device_name() if bench.on_gpu else f"{platform.machine()} CPU, toy sizes"
    bench.say(
        f"## {time.strftime('%Y-%m-%d')}: `make gpu-check`",
        "",
        f"{device}; torch {torch.__version__}, transformers {transformers.__version__}, Python "
        f"{platform.python_version()}; {args.minutes:g} minutes for {', '.join(parts)}; seed 0.",
    )
    ends = bench.begun + 60 * args.minutes
    for index, part in enumerate(parts):
        function, share = PARTS[part]
        module, name = function.split(".")
        bench.ends = time.monotonic() + (ends - time.monotonic()) * share / sum(PARTS[p][1] for p in parts[index:])
        bench.say("", f"### {part}", "")
        begun = time.monotonic()
        signal.alarm(max(1, int(bench.left)) + GRACE)
        try:
            getattr(importlib.import_module(f"tests.benchmarks.gpu_check.{module}"), name)(bench)
        except Exception:  # of whatever kind: the other parts go on
            bench.say("", f"**{part} failed**", "", "```", traceback.format_exc(limit=-6).rstrip(), "```")
        signal.alarm(0)
        bench.say("", f"({time.monotonic() - begun:.0f} s)")
        if bench.on_gpu:
            torch.cuda.empty_cache()


def _out_of_time(signum: int, frame: object) -> None:
    raise TimeoutError("its time is over")


if __name__ == "__main__":
    main()
