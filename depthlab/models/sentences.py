"""A model that was trained for sentences, in sentence-transformers: files of its modules, and depths on request."""

import json
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def write_sentence_modules(directory: Path, hidden_size: int) -> None:
    """Let `SentenceTransformer(DIR)` take an exported model as it was trained: a sentence is its tokens' mean state."""
    (directory / "modules.json").write_text(json.dumps(MODULES, indent=2) + "\n")
    pooling = {"word_embedding_dimension": hidden_size, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling/config.json").write_text(json.dumps(pooling, indent=2) + "\n")


def keep_depths(encoder: nn.Sequential) -> nn.Sequential:
    """The `SentenceTransformer`, which now has "depths", [T], in what `encode(..., output_value=None)` gives."""
    depths: ContextVar[Any] = ContextVar("depths")  # of each thread's own call

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        depths.set(output.depths)

    def add(module: nn.Module, inputs: Any, features: dict[str, Any]) -> None:
        features["depths"] = depths.get()

    encoder[0].auto_model.encoder.register_forward_hook(note)  # the model itself is not called, only its forward is
    encoder[0].register_forward_hook(add)
    return encoder
