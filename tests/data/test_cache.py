"""The cache is written by one at a time, and what a killed process leaves does not stay."""

import os
import signal
import subprocess
import sys
import time

from depthlab.data.cache import making
from tests.chaos.faults import lives
from tests.support import REPOSITORY

PREPARES = """
import multiprocessing, os, sys, time
from pathlib import Path
from depthlab.data.cache import making

with making(Path(sys.argv[1])) as scratch:
    (scratch / "half").write_text("of it")
    with multiprocessing.get_context("fork").Manager() as manager, multiprocessing.get_context("fork").Pool(2) as pool:
        print(manager._process.pid, *(worker.pid for worker in pool._pool), flush=True)
        time.sleep(60)
"""


def start(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARES, folder],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, [int(pid) for pid in process.stdout.readline().split()]


def test_a_killed_process_leaves_nothing(tmp_path, capfd):
    process, helpers = start(tmp_path)
    assert len(helpers) == 3 and all(map(lives, helpers))
    assert len(list(tmp_path.glob("preparing-*/half"))) == 1
    process.send_signal(signal.SIGKILL)
    process.communicate()
    while any(map(lives, helpers)):  # the test's own limit ends it where they stay
        time.sleep(0.01)
    with making(tmp_path) as scratch:
        assert list(tmp_path.glob("preparing-*")) == [scratch]
    assert [path.name for path in tmp_path.iterdir()] == [".lock"] and capfd.readouterr().err == ""


def test_another_is_waited_for(tmp_path, capfd):
    process, _ = start(tmp_path)
    waits = os.fork()
    if waits == 0:
        with making(tmp_path):
            os._exit(len(list(tmp_path.glob("preparing-*"))))
    said = ""
    while "waiting" not in said:
        said += capfd.readouterr().err
        time.sleep(0.01)
    assert os.waitpid(waits, os.WNOHANG) == (0, 0), "it waits as long as the other is at it"
    process.kill()
    process.communicate()
    assert os.waitstatus_to_exitcode(os.waitpid(waits, 0)[1]) == 1, "only its own is left"
    assert said == f"{tmp_path}: waiting for another process, which prepares data there\n"
