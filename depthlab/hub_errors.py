"""Loading by Hugging Face's clients: tried again where the hub is at fault; what is said is said in a line."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import is_offline_mode
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers.utils import logging

from depthlab.errors import UserError, causes

Loaded = TypeVar("Loaded")

WAITS = (1, 2, 4, 8)
"""Seconds before each new try, at a hub that answers with an error of its own (5xx)."""


@contextmanager
def quietly() -> Iterator[None]:
    """Without what transformers prints of weights: the caller does, in one line."""
    verbosity, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shows_progress:
            logging.enable_progress_bar()


def retried(load: Callable[[], Loaded]) -> Loaded:
    """What `load` returns; tried again while the hub is at fault: its client retries files, but no listings."""
    for wait in WAITS:
        try:
            return load()
        except Exception as error:
            if not any(isinstance(cause, HfHubHTTPError) and _is_hubs_fault(cause) for cause in causes(error)):
                raise
            time.sleep(wait)
    return load()


def loaded(what: str, load: Callable[[], Loaded]) -> Loaded:
    """As `retried`; what goes wrong with weights, files or the hub is the user's to hear.

    Raises:
        UserError: "cannot load WHAT: " and why.
    """
    try:
        return retried(load)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise UserError(f"cannot load {what}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why the hub did not give a repository and, where one can tell, what to do about it: one line."""
    chain = list(causes(error))
    if any(isinstance(cause, GatedRepoError) for cause in chain) or "is a gated dataset" in str(error):
        return "it is gated: ask for access on its page there, then log in with `hf auth login`"
    if is_offline_mode() and any(isinstance(cause, ConnectionError | LocalEntryNotFoundError) for cause in chain):
        offline = "HF_HUB_OFFLINE is set and the cache has it not: unset HF_HUB_OFFLINE, or fetch it once without"
        return f"there is no such folder here, {offline}"
    # datasets' own error by its name: importing it takes seconds, and models need no corpora
    if any(
        isinstance(cause, RepositoryNotFoundError) or type(cause).__name__ == "DatasetNotFoundError" for cause in chain
    ):
        on_hub = "the hub has none of that name, or not for you: correct it, or log in with `hf auth login`"
        return f"there is no such folder here, and {on_hub}"
    return first_line(error)


def first_line(error: Exception) -> str:
    """What a library gives as the reason, without its advice."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is_hubs_fault(error: HfHubHTTPError) -> bool:
    return error.response is not None and error.response.status_code >= 500
