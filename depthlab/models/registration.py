"""Teaches `transformers` the model types of this package without importing it, or `transformers`, or torch.

`AutoConfig` and its kin look model types up in tables of names and import what a name stands for when it is asked for.
So our names are written into these tables, beside `depthlab.models`, which in turn imports its classes when they are
asked for: at once where `transformers` has been imported already, and else as soon as it has filled its tables. Its
own `register` would need the classes, and so torch; and while `transformers` is still importing itself they can't be
had at all.
"""

import sys
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

CONFIGS = {"adaptive_albert": "AdaptiveAlbertConfig", "adaptive_bert": "AdaptiveBertConfig"}
HEADS = {  # by the table of `modeling_auto`, `MODEL_MAPPING` and so on
    "MODEL": "Model",
    "MODEL_FOR_PRETRAINING": "ForPreTraining",
    "MODEL_FOR_MASKED_LM": "ForMaskedLM",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION": "ForSequenceClassification",
    "MODEL_FOR_TOKEN_CLASSIFICATION": "ForTokenClassification",
    "MODEL_FOR_QUESTION_ANSWERING": "ForQuestionAnswering",
    "MODEL_FOR_MULTIPLE_CHOICE": "ForMultipleChoice",
}


def register() -> None:
    """Make the model types known, now or when the time has come. Again, it changes nothing."""
    for name, teach in TABLES.items():
        if name in sys.modules:
            teach(sys.modules[name])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _teach_configs(module: ModuleType) -> None:
    table = module.CONFIG_MAPPING
    for model_type, name in CONFIGS.items():
        table._mapping[model_type] = name
        table._modules[model_type] = sys.modules[__package__]


def _teach_models(module: ModuleType) -> None:
    for table_name, head in HEADS.items():
        table = getattr(module, f"{table_name}_MAPPING")
        for model_type, config in CONFIGS.items():
            table._reverse_config_mapping[config] = model_type
            table._model_mapping[model_type] = config.removesuffix("Config") + head
            table._modules[model_type] = sys.modules[__package__]


TABLES = {
    "transformers.models.auto.configuration_auto": _teach_configs,
    "transformers.models.auto.modeling_auto": _teach_models,
}


class _Finder(MetaPathFinder):
    """Finds the two modules as Python would, and has them taught once they have run."""

    def find_spec(self, name: str, path, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in TABLES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_run, spec.loader)
        return spec


def _run(loader: Loader, module: ModuleType) -> None:
    """Run a module as its loader does, and teach it; who asks later (pickles, inspect) finds the loader as it was."""
    del loader.exec_module
    loader.exec_module(module)
    TABLES[module.__name__](module)
