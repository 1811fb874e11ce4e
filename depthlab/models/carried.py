"""A model's directory, with the code that it carries, so that it loads where depthlab is not installed.

Hugging Face's `trust_remote_code` takes a flat folder of files that import each other relatively: the modules that a
model is made of are written so, each by its dotted name with underscores, `depthlab_models_encoder.py`.
"""

import json
import re
import shutil
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel

import depthlab.models
from depthlab.models.registration import CONFIGS, HEADS

PACKAGE = Path(depthlab.models.__file__).parents[1]
IMPORT = re.compile(r"^(\s*from )(depthlab[.\w]*)(?= import )", re.MULTILINE)


def save_model(model: PreTrainedModel, directory: Path) -> None:
    """As its own `save_pretrained`, with its code, and whoever may read the configuration may read the weights.

    safetensors 0.8 writes for the owner alone (https://github.com/safetensors/safetensors/issues/782).

    Raises:
        OSError: it can't be written.
    """
    try:
        model.save_pretrained(directory)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    carry_code(model, directory)
    for weights in directory.glob("*.safetensors"):
        shutil.copymode(directory / "config.json", weights)


def carry_code(model: PreTrainedModel, directory: Path) -> None:
    """Write the code beside a saved model, and into its config.json which class is which; once loaded, it is float32.

    A model that is not one of ours gets no code. With `import depthlab` Hugging Face's tools take the installed classes
    all the same.
    """
    config = directory / "config.json"
    # transformers loads weights in the precision that the file names, and half is none to go on training in.
    content = json.loads(config.read_text()) | {"dtype": "float32"}
    model_type = content["model_type"]
    if model_type in CONFIGS:
        names = [CONFIGS[model_type].removesuffix("Config") + kind for kind in ("Config", *HEADS.values())]
        homes = {name: getattr(depthlab.models, name).__module__ for name in names}
        content["auto_map"] = {_auto_class(name): f"{_flat(home)}.{name}" for name, home in homes.items()}
        sources = _gathered(set(homes.values()))
        # transformers 5.4 copies what a class's own file names, and not what that names in turn.
        named = "".join(f"    from .{_flat(name)} import *\n" for name in sorted(sources))
        for name, source in sources.items():
            text = IMPORT.sub(lambda found: f"{found[1]}.{_flat(found[2])}", source)
            if name in homes.values():
                text += f"\nif False:  # all files that are needed, by name\n{named}"
            (directory / f"{_flat(name)}.py").write_text(text)
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _auto_class(name: str) -> str:
    """Hugging Face's class that stands for one of ours: "AutoModelForMaskedLM" for "AdaptiveAlbertForMaskedLM"."""
    kind = re.sub("^Adaptive(Albert|Bert)", "", name)
    return f"Auto{kind}" if kind in ("Config", "Model") else f"AutoModel{kind}"


def _flat(module: str) -> str:
    return module.replace(".", "_")


def _gathered(modules: set[str]) -> dict[str, str]:
    """Modules and all of ours that they import: source by name."""
    found: dict[str, str] = {}
    while missing := modules - found.keys():
        for name in missing:
            place = PACKAGE.joinpath(*name.split(".")[1:])
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            found[name] = file.read_text()
            modules = modules | {imported for _, imported in IMPORT.findall(found[name])}
    return found
