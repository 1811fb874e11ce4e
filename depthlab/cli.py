"""The `depthlab` command: names -> modules, imported when called."""

import errno
import os
import re
import sys
import threading
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import requires
from typing import Any

from depthlab.errors import BadNumbers, UserError, causes
from depthlab.version import VERSION

EXPERIMENTS = {
    "plan": "Say what an experiment will take, and check what can be checked, before it is paid for.",
    "prepare": "Prepare an experiment's data ahead of time, so that fit finds it in the cache.",
    "fit": "Train and validate, from the start or from where a run was left.",
    "validate": "Measure a run on the validation split.",
    "test": "Measure a run on the test splits.",
    "dial": "Measure one checkpoint at many depths, by any halting rule.",
    "predict": "Write a run's predictions for the test splits, or the depths of a treebank's words.",
    "sweep": "Run what is left of a sweep, then say what has become of it.",
}
"""Commands whose options are those of an experiment: all but `plan` and `sweep`, of Lightning's CLI."""
FUNCTIONS = {
    "inspect": "Show how deep a model goes for each piece of a text, and what it predicts.",
    "bench": "Measure how fast a model is on your own sentences, in its executions and beside others.",
    "status": "Show how far runs and sweeps are: state, step, time left, losses, depths, throughput.",
    "replay": "Run the step again in which a run's numbers went bad, and say where they first did.",
    "export": "Write a run's checkpoint as a Hugging Face directory.",
    "convert": "Turn a trained BERT, ALBERT or albert-act into an adaptive ALBERT.",
    "report": "What runs and tables show, as Markdown and as a page that needs no network.",
    "submission": "Make the zip file for the GLUE server.",
    "data": "Data sets made out of others.",
}
"""Commands of which a function's signature is the interface, or several functions' by kind."""

OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES),
    *(errno.EIO, errno.ESTALE, errno.ENOENT),  # a disk that fails, or was there
}

HELP = """usage: depthlab COMMAND ...

Adaptive depth for ALBERT: pre-train, start from what others trained, fine-tune, evaluate.

An experiment is a YAML: `depthlab fit --config experiments/pretrain.yaml`. Every setting of it can be given on the
command line too (`--data.corpus FOLDER`).

{commands}

`depthlab COMMAND --help` explains each. `depthlab --version` says which depthlab this is. The shell completes commands
and options, from its next start on, after

  mkdir -p ~/.local/share/bash-completion/completions
  depthlab --print_completion shtab-bash > ~/.local/share/bash-completion/completions/depthlab"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: what follows `depthlab`, that of the process by default."""
    threading.excepthook = _of_a_thread
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or [""]
    try:
        if name in ("-h", "--help"):
            print(HELP.format(commands=_listed()))
        elif name == "--version":
            print("depthlab", VERSION)
        elif name.startswith("--print_completion"):
            functions = {command: find(command) for command in FUNCTIONS}
            kind = "".join([*name.split("=")[1:], *rest])
            import_module("depthlab.commands.completion").print_script(kind, EXPERIMENTS, functions)
        elif name in EXPERIMENTS or name in FUNCTIONS:
            _run(name, rest)
        else:
            raise UserError(_unknown(name))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if (told := _told(error)) is None:
            raise
        print("depthlab: error:", " ".join(told.split()), file=sys.stderr)
        sys.exit(1 if isinstance(error, BadNumbers) else 2)


def _of_a_thread(failed: Any) -> None:
    """Say what ends a thread; TensorBoard's, which can't write, is heard of when it is given the next."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)


def _told(error: BaseException | None) -> str | None:
    """What the user hears of an error: what is the user's to mend, and what a disk had no room for or would not do."""
    if isinstance(error, UserError | BadNumbers):
        return str(error)
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in OF_THE_DISK:
            return f"{os.fsdecode(cause.filename or 'a file cannot be written')}: {cause.strerror}"
    return None


def find(name: str) -> Any:
    """The function of a command, or functions by kind."""
    module = import_module(f"depthlab.commands.{name}")
    return getattr(module, "KINDS", None) or getattr(module, name)


def _run(name: str, arguments: list[str]) -> None:
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own, about what torch has deprecated
    # Lightning's, about a sampler that is not its own: ours repeats the first epoch by itself.
    warnings.filterwarnings("ignore", message="You requested to overfit but enabled")
    from huggingface_hub.errors import StrictDataclassError

    try:
        if name in ("dial", "plan", "sweep"):
            find(name)(arguments)
        elif name in EXPERIMENTS:
            import_module("depthlab.commands.experiment").run_experiment(name, arguments)
        else:
            command = find(name)
            if name == "report" and not {*arguments[:1]} & {*command, "-h", "--help"}:
                arguments.insert(0, "page")
            import_module("depthlab.commands.parser").run(name, command, arguments)
    except ModuleNotFoundError as error:
        if (extra := _extra_with(error.name or "")) is None:
            raise
        message = f"`depthlab {name}` needs {error.name}, which is not installed: pip install 'depthlab[{extra}]'"
        raise UserError(message) from error
    except StrictDataclassError as error:  # what Hugging Face wraps a bad field of a model's configuration in
        raise UserError(" ".join(str(error).split()).rpartition("ValueError: ")[2]) from error


def _extra_with(module: str) -> str | None:
    """The first of depthlab's extras that brings a module; None where none does."""
    package = module.partition(".")[0].replace("_", "[-_]")
    found = (re.match(rf"{package}\b.*extra == [\"'](\w+)", need) for need in requires("depthlab") or ())
    return next((match[1] for match in found if match), None)


def _listed() -> str:
    groups = {"Experiments": EXPERIMENTS, "Models, reports, data": FUNCTIONS}
    blocks = ([f"{title}:", *(f"  {name:12}{text}" for name, text in group.items())] for title, group in groups.items())
    return "\n\n".join("\n".join(block) for block in blocks)


def _unknown(name: str) -> str:
    names = [*EXPERIMENTS, *FUNCTIONS]
    wrong = f"there is no command {name!r}" if name else "a command is missing"
    near = get_close_matches(name, names, 1)
    which = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(names)}"
    return f"{wrong}: {which} (see `depthlab --help`)"
