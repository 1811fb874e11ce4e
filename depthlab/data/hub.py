"""Which names to ask the Hugging Face hub for."""

import re

from depthlab.errors import notice_once

FILE_SUFFIXES = (
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".model", ".vocab"),
    *(".gz", ".bz2", ".zip", ".zst"),
)


def may_be_on_hub(name: str) -> bool:
    """Whether `name` or `org/name`, and not what can only be a mistyped path: the hub is tried for half a minute."""
    return (
        not name.lower().endswith(FILE_SUFFIXES) and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) is not None
    )


def announce(name: str) -> None:
    """Say, once, what the user waits for."""
    notice_once(f"{name} is no file or folder here; trying the Hugging Face hub")
