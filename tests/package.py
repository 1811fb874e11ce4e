"""`make package`: what is built installs alone, and README's first steps work from it, far from the repository.

Named so that `make test` does not collect it: it makes environments and asks the package index.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support import REPOSITORY

UV = Path(sys.executable).with_name("uv")
SENTENCE = "The crows circled above me."
SHORT = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.num_workers=0", "--data.max_length=32"]
LOAD = f"""
import sys
from transformers import AutoModel, AutoTokenizer
folder, trust = sys.argv[1], len(sys.argv) > 2
if not trust:
    import depthlab
options = {{"trust_remote_code": trust}}
model, tokenizer = (auto.from_pretrained(folder, **options) for auto in (AutoModel, AutoTokenizer))
print(model(**tokenizer("{SENTENCE}", return_tensors="pt")).depths.tolist())
"""


EXPERIMENTS = """
import sys
from depthlab.commands.experiment import read_settings
for name in sys.argv[1:]:
    print(name, read_settings([f"--config={name}"])["run_dir"])
"""


def main(torch_index: list[str]) -> None:
    """Exits with a traceback where a command does not do as it should."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(UV, "build", "--quiet", "--out-dir", place / "dist", REPOSITORY)  # the wheel is built from the sdist
        (wheel,) = (place / "dist").glob("*.whl")

        python = environment(place / "whole", f"{wheel}[all]", torch_index)
        shown = run(python.with_name("depthlab"), "inspect", SENTENCE, cwd=place)
        assert "mean depth" in shown, shown
        files = [file.relative_to(REPOSITORY / "experiments") for file in (REPOSITORY / "experiments").rglob("*.yaml")]
        run(python, "-c", EXPERIMENTS, *files, cwd=place)
        run(python.with_name("depthlab"), "fit", "--config", "pretrain.yaml", *SHORT, cwd=place)
        model = place / "checkpoints/runs/pretrain/model"
        depths = run(python, "-c", LOAD, model, cwd=place)

        python = environment(place / "core", str(wheel), torch_index)
        assert run(python, "-c", LOAD, model, cwd=place) == depths
        said = run(python.with_name("depthlab"), "fit", "--config", "pretrain.yaml", cwd=place, status=2)
        assert "pip install 'depthlab[train]'" in said, said

        python = environment(place / "bare", "transformers", torch_index)
        assert run(python, "-c", LOAD, model, "trust", cwd=place) == depths
    print("the package is whole")


def environment(folder: Path, what: str, torch_index: list[str]) -> Path:
    """The Python of a new environment with torch and a package in it, in the versions of `make setup`."""
    constraints = REPOSITORY / ".ci/constraints.txt"
    install = [UV, "pip", "install", "--quiet", "--python", folder / "bin/python", "--constraint", constraints]
    run(UV, "venv", "--quiet", "--python", sys.executable, folder)
    run(*install, "torch", *torch_index)
    run(*install, what)
    return folder / "bin/python"


def run(*command: object, status: int = 0, **settings: Any) -> str:
    """What a command prints, which must end with this status."""
    words = list(map(str, command))
    print("+", words[0].rpartition("/")[2], *(word for word in words[1:] if "\n" not in word), flush=True)
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(words, env=outside, text=True, capture_output=True, **settings)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr * (status != 0)


if __name__ == "__main__":
    main(sys.argv[1:])
