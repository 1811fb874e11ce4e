"""Which names to ask the Hugging Face hub for."""

import os
import re
import sys

FILE_SUFFIXES = (
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".model", ".vocab"),
    *(".gz", ".bz2", ".zip", ".zst"),
)


def may_be_on_hub(name: str) -> bool:
    """Whether `name` or `org/name`, and not what can only be a mistyped path: the hub is tried for half a minute."""
    return not name.endswith(FILE_SUFFIXES) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) is not None


def announce(name: str) -> None:
    """Say what the user waits for, in the first process alone."""
    if all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        print(f"{name} is no file or folder here; trying the Hugging Face hub", file=sys.stderr)
