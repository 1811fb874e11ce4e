"""The short version of `make chaos`: one run is killed, signalled and damaged, and comes to the same end."""

import signal
from random import Random

import pytest

from tests.chaos.faults import Stage
from tests.chaos.runs import Run, compare, write_data


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chaos")
    write_data(folder / "data", documents=2)
    return Stage(folder / "data", folder, Random(0))


@pytest.fixture(scope="module")
def reference(stage):
    return stage.reference("glue")


def hit(stage, place, times, number, group=False, workers=0, kind="glue"):
    """A run that got a signal at a place."""
    stage.tries += 1
    run = Run(kind, stage.data, stage.folder / f"{stage.tries}-{place}", workers)
    process = run.start(stop_at=f"{place} {times}")
    assert process.has_stopped(), process.output
    process.kill(number, group)
    return run, process, process.wait()


@pytest.mark.parametrize(("place", "times"), [pytest.param("validation", 2, marks=pytest.mark.full), ("saving", 5)])
def test_what_was_killed_goes_on_as_if_it_had_not_been(stage, reference, place, times):
    """With dropout, validations after an epoch, and the best state kept."""
    run, _, status = hit(stage, place, times, signal.SIGKILL)
    assert status == -signal.SIGKILL and not run.directory.results.exists()
    process = run.finish()
    assert process.status == 0, process.output
    comparison = compare(run, reference)
    assert (comparison.lost, comparison.repeated, comparison.differences) == (0, 0, [])


@pytest.mark.full
def test_a_signal_in_the_last_step_leaves_a_validation_to_be_made_up(stage):
    run, process, status = hit(stage, "step", 16, signal.SIGTERM, kind="pretraining")
    assert status == 130 and not process.errors(), process.output
    process = run.finish()
    assert process.status == 0, process.output
    assert compare(run, stage.reference("pretraining")).differences == []


def test_a_signal_to_all_processes_saves_and_a_damaged_save_is_told(stage, reference):
    """SIGTERM, as batch systems send it: the one that makes batches gets it, too."""
    run, process, status = hit(stage, "step", 5, signal.SIGTERM, group=True, workers=1)
    assert status == 130 and not process.errors(), process.output
    last = run.directory.last
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    process = run.finish()
    assert f"{last} is damaged (its checksum differs): taking previous.ckpt in its place\n" in process.output
    assert process.status == 0 and compare(run, reference).differences == []
