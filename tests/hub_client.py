"""What is asked of the hub in a process of its own: `python -m tests.hub_client FOLDER CHECK...` prints a JSON object.

Each check gives what it found, or the one line that a user would read.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_from_disk
from datasets.utils.logging import disable_progress_bar

from depthlab.cli import main
from depthlab.data.benchmarks.glue import read_task
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.data.benchmarks.own import OwnDataModule
from depthlab.data.corpora.chunks import ChunkSettings
from depthlab.data.corpora.corpus import CorpusSource, content_digest, load_documents, read_texts
from depthlab.data.corpora.parts import SplitSettings
from depthlab.data.corpora.preparation import Places, prepare, summarise
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertModel
from depthlab.models.checkpoint import load_checkpoint
from tests.hub import ALBERT, BOOKS, GLUE, LARGE, WIKIPEDIA

FOLDER = Path(sys.argv[1])


def documents(path: str, **settings: Any) -> list[str]:
    source = CorpusSource(path, **settings)
    return list(read_texts(source, load_documents(source, FOLDER / "scratch")))


def chunks(path: str, workers: int, **settings: Any) -> dict[str, Any]:
    """Of a corpus, by the hub's tokenizer: how many of what, and the pieces of each."""
    source = CorpusSource(path, **settings)
    folder = FOLDER / f"chunks-{workers}-{source.streaming}"
    places = Places([source], ALBERT, 120, ChunkSettings(32, 0.1), SplitSettings(0.3, 0.1, 0), folder)
    prepared = prepare(places, workers)
    summary = summarise(prepared)
    del summary["seconds"]
    table = load_from_disk(prepared.chunks[0])
    return {"summary": summary, "ids": table["ids"][:], "parts": prepared.parts_of(0)}


def glue() -> dict[str, dict[str, Any]]:
    tasks = {name: read_task(task, None) for name, task in GLUE_TASKS.items()}
    return {
        name: {split: [[texts[0] for texts in rows.texts], rows.labels] for split, rows in task.items()}
        for name, task in tasks.items()
    }


def own(name: str, **settings: Any) -> dict[str, Any]:
    """A task of GLUE as if it were one's own: labels and splits."""
    splits = {"train": "train", "val": "validation", "test": "test"}
    module = OwnDataModule(**splits | {"hub": GLUE, "name": name} | settings)
    return {"labels": module.labels, **{split: [rows.texts, rows.labels] for split, rows in module.read().items()}}


def model() -> float:
    loaded = load_checkpoint(AdaptiveAlbertModel, ALBERT)
    return loaded.embeddings.word_embeddings.weight.sum().item()


def large() -> dict[str, int]:
    """A corpus read once: characters of its text, and by how much this process has grown meanwhile."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    source = CorpusSource(LARGE, streaming=True)
    texts = read_texts(source, load_documents(source, FOLDER / "scratch"))
    characters = len(next(texts))
    start = highest = resident()
    for text in texts:
        characters += len(text)
        highest = max(highest, resident())
    return {"characters": characters, "growth": highest - start}


CHECKS: dict[str, Callable[[], Any]] = {
    "wikipedia": lambda: documents(WIKIPEDIA, name="20231101.en"),
    "stream": lambda: documents(WIKIPEDIA, name="20231101.en", streaming=True),
    "slice": lambda: documents(WIKIPEDIA, name="20231101.en", split="train[:1]"),
    "titles": lambda: documents(WIKIPEDIA, name="20231101.en", text_field="title", streaming=True),
    "books": lambda: documents(BOOKS),
    "digests": lambda: [content_digest(CorpusSource(BOOKS, streaming=flag), Path()) for flag in (False, True)],
    "chunks": lambda: [chunks(WIKIPEDIA, 1, name="20231101.en", streaming=flag) for flag in (False, True)],
    "parallel": lambda: chunks(WIKIPEDIA, 2, name="20231101.en", streaming=True),
    "large": large,
    "glue": glue,
    "own pairs": lambda: own("qqp", text=["question1", "question2"]),
    "own texts": lambda: own("sst2"),
    "own numbers": lambda: own("stsb", kind="numbers"),
    "own other label": lambda: own("stsb", kind="numbers", label="idx"),
    "own no text": lambda: own("qqp"),
    "own no such text": lambda: own("qqp", text="body"),
    "own no label": lambda: own("sst2", label="class"),
    "own no split": lambda: own("sst2", val="dev"),
    "own no configuration": lambda: own("sst3"),
    "tokenizer": lambda: load_tokenizer(ALBERT).tokenize("the (semi-final) dog"),
    "model": model,
    "no configuration": lambda: documents(WIKIPEDIA, name="20231101.xx"),
    "no column": lambda: documents(BOOKS, text_field="body"),
    "no text": lambda: documents(WIKIPEDIA, name="20231101.en", text_field="views", streaming=True),
    **{
        f"{state} {kind}": lambda name=f"org/{state}", load=load: load(name)
        for state in ("gated", "missing")
        for kind, load in {
            "corpus": documents,
            "stream": lambda name: documents(name, streaming=True),
            "tokenizer": load_tokenizer,
            "model": lambda name: load_checkpoint(AdaptiveAlbertModel, name),
        }.items()
    },
}


def outcome(check: Callable[[], Any]) -> Any:
    try:
        return check()
    except UserError as error:
        return f"UserError: {error}"


def plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


if __name__ == "__main__":
    disable_progress_bar()
    if sys.argv[2] == "depthlab":  # a command a line
        for line in sys.stdin:
            main(json.loads(line))
    else:
        print(json.dumps({name: outcome(CHECKS[name]) for name in sys.argv[2:]}, default=plain))
