"""Signals to a whole group end no process that makes batches; one that is killed is named."""

import os
import signal
import subprocess
import time

import pytest
import torch

from depthlab.data.steps import loader
from depthlab.data.workers import HELD_BACK, named_when_killed
from depthlab.errors import UserError


class Numbers(torch.utils.data.Dataset):
    """Who makes them."""

    def __getitem__(self, index):
        time.sleep(0.02)
        return [{"pid": os.getpid()}]


def test_a_signal_to_all_is_the_parents():
    batches = iter(loader(Numbers(), range(40), 2))
    workers = {next(batches)[0]["pid"] for _ in range(4)}
    assert len(workers) == 2
    for number in HELD_BACK:
        subprocess.run(["kill", f"-{int(number)}", *map(str, workers)], check=True)  # not from their parent
    assert {batch[0]["pid"] for batch in batches} <= workers


def test_one_that_is_killed_is_named():
    batches = iter(loader(Numbers(), range(10_000), 1))
    worker = next(batches)[0]["pid"]
    with (
        pytest.raises(UserError, match=rf"^process {worker}, which made batches, was killed:"),
        named_when_killed(),
    ):
        os.kill(worker, signal.SIGKILL)
        list(batches)


def test_other_errors_are_themselves():
    with pytest.raises(RuntimeError, match="shapes"), named_when_killed():
        raise RuntimeError("shapes differ")
