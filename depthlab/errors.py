"""The exceptions that end a command with one line, and what is said in a line where nothing ends."""

import os
import sys


class UserError(ValueError):
    """Bad input. The message is one line: the file, line or field at fault, and the way out.

    The command line prints it without a traceback and exits with status 2.
    """


class BadNumbers(FloatingPointError):
    """A loss, a gradient or a weight is NaN or infinite. The message is one line: where, and of what step.

    The command line prints it without a traceback and exits with status 1.
    """


def notice(text: str) -> None:
    """Say a line on the standard error, in the first of several processes alone."""
    if all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        print(text, file=sys.stderr, flush=True)
