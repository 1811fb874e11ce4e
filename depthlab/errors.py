"""The exceptions that end a command with one line, and what is said in a line where nothing ends."""

import functools
import os
import sys
from collections.abc import Iterator, Sequence

SHOWN = 10
"""Most of what is named one by one: sentences that are left out, labels that there are."""


class UserError(ValueError):
    """Bad input. The message is one line: the file, line or field at fault, and the way out.

    The command line prints it without a traceback and exits with status 2.
    """


class BadNumbers(FloatingPointError):
    """A loss, a gradient or a weight is NaN or infinite. The message is one line: where, and of what step.

    The command line prints it without a traceback and exits with status 1.
    """


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on; each once, as one that is raised again may lead back to itself."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def notice(text: str) -> None:
    """Say a line on the standard error, in the first of several processes alone."""
    if all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        print(text, file=sys.stderr, flush=True)


@functools.cache
def notice_once(text: str) -> None:
    """As `notice`, but what has been said is not said again."""
    notice(text)


def say_left_out(sentences: Sequence[str], why: str) -> None:
    """Say how many sentences were left out, if any, and the first of them by name; why they were, as "which WHY"."""
    if sentences:
        more = f", and {len(sentences) - SHOWN} more" if len(sentences) > SHOWN else ""
        notice(f"{len(sentences)} sentences left out, which {why}: {', '.join(sentences[:SHOWN])}{more}")
