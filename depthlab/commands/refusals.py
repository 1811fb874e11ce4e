"""What the libraries below refuse of a user's settings, as one line of ours."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from depthlab.errors import UserError

PARSERS = ("jsonargparse", "omegaconf")
"""Whatever goes wrong in them is a setting that they can't make sense of."""
SECTIONS = {"lightning": "trainer", "torch.optim": "model.optimizer", "torch.cuda": "trainer.accelerator"}
"""By library, the settings that it reads."""
REFUSALS = (MisconfigurationException, ValueError, TypeError, RuntimeError, AssertionError, ImportError)


@contextmanager
def refusals_in_a_line() -> Iterator[None]:
    """Turns errors that a library raises itself, not those of our code that it calls, into the user's.

    Raises:
        UserError: there was one.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        module = [frame.f_globals.get("__name__", "") for frame, _ in frames][-1]
        said = " ".join(str(error).split()) or type(error).__name__
        if module.startswith(PARSERS):
            raise UserError(f"the settings can't be read: {said}") from error
        section = next((section for library, section in SECTIONS.items() if module.startswith(library)), None)
        if section is None or not isinstance(error, REFUSALS):
            raise
        raise UserError(f"{section}: {said} (mend the setting, or leave it out)") from error
