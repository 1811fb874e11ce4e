"""The scripts for clusters, with a stand-in for what starts ranks: what they start, how they resume and requeue."""

import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from depthlab.cli import main
from tests.support import REPOSITORY

CLUSTER = REPOSITORY / "experiments/cluster"
SCRIPTS = {"node": "torchrun", "nodes": "srun"}
WAIT = "trap 'echo told >>started; exit 130' TERM; touch running; while [ -e running ]; do sleep 0.05; done\n"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder where `torchrun` and `srun` write down what they start, and `scontrol` what is to queue again."""
    bin_ = tmp_path / ".venv/bin"
    bin_.mkdir(parents=True)
    (bin_ / "activate").write_text(f"PATH={bin_}:$PATH\n")
    for name, body in {"torchrun": WAIT, "srun": WAIT, "scontrol": "", "depthlab": ""}.items():
        (bin_ / name).write_text(f'#!/bin/bash\necho {name} "$@" >>started\n{body}')
        (bin_ / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_NNODES", "2")
    return tmp_path


def start(script: str, job: Path) -> subprocess.Popen:
    process = subprocess.Popen(["bash", str(CLUSTER / f"{script}.sbatch")], cwd=job)
    while not (job / "running").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


def settings(words: list[str], capsys) -> dict:
    """What depthlab makes of a command in a script."""
    options = words[words.index("depthlab") + 1 :]
    options = options[: options.index("--ckpt_path")] if "--ckpt_path" in options else options
    with pytest.raises(SystemExit) as end:
        main([*options, "--print_config"])
    assert not end.value.code
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_that_is_told_to_stop_queues_again_and_goes_on(job, script):
    process = start(script, job)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20)
    first, *rest = (job / "started").read_text().splitlines()
    assert first.startswith(SCRIPTS[script]) and "--ckpt_path" not in first
    assert rest == ["told", "scontrol requeue 42"], "once, and in this order"
    (job / "running").unlink(missing_ok=True)

    last = Path("checkpoints/runs/base/checkpoints/last.ckpt")
    last.parent.mkdir(parents=True)
    last.touch()
    (job / "started").unlink()
    again = start(script, job)
    (job / "running").unlink()
    assert again.wait(20) == 0
    (started,) = (job / "started").read_text().splitlines()
    assert started.endswith("--ckpt_path last"), "and one that has ended queues no more"


@pytest.mark.parametrize("script", SCRIPTS)
def test_as_many_ranks_as_the_settings_say(job, script, monkeypatch, capsys):
    process = start(script, job)
    (job / "running").unlink()
    process.wait(20)
    words = shlex.split((job / "started").read_text())
    monkeypatch.chdir(REPOSITORY)
    config = settings(words, capsys)
    text = (CLUSTER / f"{script}.sbatch").read_text()
    ranks = words[words.index("--nproc-per-node") + 1] if script == "node" else re.search(r"node=(\d+)", text)[1]
    assert (config["trainer"]["devices"], config["trainer"]["num_nodes"]) == (int(ranks), 2 if script == "nodes" else 1)
    assert f"--gres=gpu:{ranks}" in text and f"--nodes={config['trainer']['num_nodes']} " in text
    assert f"[ -e {config['run_dir']}/checkpoints/last.ckpt ]" in text


def test_the_corpus_is_prepared_without_a_gpu(job, monkeypatch, capsys):
    subprocess.run(["bash", str(CLUSTER / "prepare.sbatch")], cwd=job, check=True)
    words = shlex.split((job / "started").read_text())
    monkeypatch.chdir(REPOSITORY)
    config = settings(words, capsys)
    assert (config["trainer"]["accelerator"], int(config["trainer"]["devices"])) == ("cpu", 1)
