"""How much does a state at [MASK] know of the hidden token? R^2 of a ridge regression from it to the token's embedding.

python -m tests.benchmarks.masked_states TEXTS MODEL [MODEL ...] [--windows 1200]

TEXTS is a folder of .jsonl.gz with a `text`. A window is the beginning of a text, 64 tokens, a seventh of them masked.
The regression is fitted on four fifths of the windows, its penalty by leave-one-out; R^2 is of the rest, over all
dimensions.
"""

import argparse
import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from transformers import AutoConfig, AutoModel

import depthlab  # noqa: F401 (registers the model type)
from depthlab.data.tokenization import load_tokenizer

LENGTH, SHARE, PENALTIES = 64, 7, np.logspace(-1, 5, 13)


def read_texts(folder: Path) -> Iterator[str]:
    """Of all files, in the order of their names."""
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt") as lines:
            yield from (json.loads(line)["text"] for line in lines)


@torch.no_grad()
def measure(checkpoint: str, folder: Path, windows: int) -> list[float]:
    """R^2 by layer, or by iteration of a model whose layers are tied, at fixed depth."""
    tokenizer = load_tokenizer(checkpoint)
    settings = {"halting": "fixed"} if AutoConfig.from_pretrained(checkpoint).model_type == "adaptive_albert" else {}
    model = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, **settings).eval()
    beginnings = (text[: 20 * LENGTH] for text in read_texts(folder))
    pieces = (tokenizer(text, truncation=True, max_length=LENGTH)["input_ids"] for text in beginnings)
    ids = torch.tensor(list(islice((window for window in pieces if len(window) == LENGTH), windows)))
    masked = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 1 / SHARE
    masked[:, [0, -1]] = False
    inputs = ids.masked_fill(masked, tokenizer.mask_token_id)
    layers = [model(input_ids=part, output_hidden_states=True).hidden_states[1:] for part in inputs.split(32)]
    table = model.get_input_embeddings().weight
    fitted = torch.arange(len(ids)) < 0.8 * len(ids)
    train, test = masked & fitted[:, None], masked & ~fitted[:, None]
    known, wanted = table[ids[train]].numpy(), table[ids[test]].numpy()
    found = []
    for parts in zip(*layers, strict=True):
        states = torch.cat(parts)
        guess = RidgeCV(PENALTIES).fit(states[train].numpy(), known).predict(states[test].numpy())
        found.append(1 - ((wanted - guess) ** 2).sum() / ((wanted - known.mean(axis=0)) ** 2).sum())
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("texts", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--windows", type=int, default=1200)
    args = parser.parse_args(arguments)
    rows = [(Path(name).name, measure(name, args.texts, args.windows)) for name in args.models]
    print("| model |", " | ".join(str(number) for number in range(1, 1 + max(len(found) for _, found in rows))), "|")
    print("|---|" + "---:|" * max(len(found) for _, found in rows))
    for name, found in rows:
        print("|", " | ".join([name, *(f"{value:.3f}" for value in found)]), "|")


if __name__ == "__main__":
    main()
