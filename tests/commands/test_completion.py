"""What a shell completes, asked of a real bash."""

import subprocess

import pytest

from depthlab.cli import EXPERIMENTS, FUNCTIONS, main
from tests.support import error_of

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_shtab_depthlab
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "script"
    with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        main(["--print_completion", "shtab-bash"])
    return path


def completed(script, *words):
    command = ["bash", "-c", ASK, "bash", str(script), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.full
def test_commands(script):
    assert {*completed(script, "depthlab", "")} == {*EXPERIMENTS, *FUNCTIONS}


@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fit --trainer.max_ep", "--trainer.max_epochs"),
        ("fit --data.mask_r", "--data.mask_ratio"),
        ("fit --model.checkp", "--model.checkpoint"),
        ("predict --dum", "--dump"),
        ("sweep --retry", "--retry_failed"),
        ("sweep --data.tas", "--data.task"),
        ("report gl", "glue"),
        ("report glue --t", "--to"),
        ("export --dtype bf", "bfloat16"),
    ],
)
def test_options(script, words, expected):
    assert expected in completed(script, "depthlab", *words.split())


@pytest.mark.parametrize("option", [["--print_completion"], ["--print_completion=fish"]])
def test_a_shell_must_be_named(capsys, option):
    assert "shtab-bash" in error_of(capsys, option)
