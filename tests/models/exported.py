"""A run's directory without the run: random weights, a tokenizer of 120 pieces, settings and results."""

import json
from pathlib import Path

import torch
import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from depthlab.data.tokenization import train_tokenizer
from tests.support import write_corpus

STEPS = 7


def tiny_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Trained on the tests' corpus, which is left in the folder."""
    write_corpus(folder / "corpus.txt")
    return train_tokenizer((folder / "corpus.txt").read_text().splitlines(), 120)


def write_run(run_dir: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **checkpoint) -> Path:
    """What `depthlab fit` leaves behind of it; the path of its checkpoint."""
    last = run_dir / "checkpoints/last.ckpt"
    last.parent.mkdir(parents=True)
    content = {
        "model_config": model.config.to_dict(),
        "state_dict": {f"model.{name}": weight for name, weight in model.state_dict().items()},
        "global_step": STEPS,
        "hold_depth": None,
    }
    torch.save(content | checkpoint, last)
    tokenizer.save_pretrained(run_dir / "tokenizer")
    settings = {"base": "base.yaml", "run_dir": str(run_dir), "data": {"corpus": ["some/where/novels"], "seed": 3}}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(settings))
    results = {"steps": STEPS, "tokens": 1234, "token_iterations": 5678, "seconds": 9.0, "val/accuracy/mlm": 0.123}
    parts = {"training": 15, "development": 6, "test": 3, "left_out": 0}
    sources = [{part: {"documents": count, "tokens": 100, "chunks": 5} for part, count in parts.items()}]
    data = {"documents": 24, "tokens": 4504, "sources": sources}
    (run_dir / "results.json").write_text(json.dumps(results | {"data": data}))
    return last
