"""Documents to chunks of token ids on disk, and their parts, in bounded memory, cached by content and settings.

Chunks do not depend on the split: another one reads them, not the text.
"""

import functools
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from transformers import PreTrainedTokenizerBase

from depthlab.data.cache import making
from depthlab.data.corpora.chunks import (
    SUMMARY,
    ChunkSettings,
    identify,
    read_documents,
    too_short,
    write_chunks,
)
from depthlab.data.corpora.corpus import CorpusSource, content_digest, load_documents, read_texts
from depthlab.data.corpora.parts import Part, SplitSettings, is_held_out, split_documents
from depthlab.data.corpora.sentences import split_sentences
from depthlab.data.tokenization import TRAINING_CHARACTERS, load_tokenizer, train_tokenizer
from depthlab.errors import UserError, causes

FORMAT = 3
"""Part of every cache key: raise it when this file or what it calls in this folder changes what is stored."""
SPLIT = "split.json"
DOCUMENTS_LOOKED_AT = 1000
"""Documents of a source, spread over it, of which one must have two sentences before any is tokenized."""


class Prepared(NamedTuple):
    """Folders of the tokenizer, of the chunks of each source, and of their parts."""

    tokenizer: Path
    chunks: list[Path]
    parts: Path

    def parts_of(self, number: int) -> np.ndarray:
        """The `Part` of each chunk of a source: [chunks] int8."""
        return np.load(self.parts / f"{number}.npy")


class Places:
    """Where the cache keeps what is made of some sources, whether or not it is there: names follow from the content.

    Args:
        sources: of documents.
        tokenizer_path: a tokenizer's; None for one that is trained on the sources.
        vocab_size: of that.
        settings: of the chunks.
        split_settings: of their parts.
        cache_dir: the cache.

    Raises:
        UserError: Bad input (see `corpus` and `tokenization`).
    """

    def __init__(
        self,
        sources: Sequence[CorpusSource],
        tokenizer_path: str | None,
        vocab_size: int,
        settings: ChunkSettings,
        split_settings: SplitSettings,
        cache_dir: Path,
    ) -> None:
        self.sources, self.settings, self.split_settings = sources, settings, split_settings
        self.cache_dir, self.vocab_size = cache_dir, vocab_size
        self.digests = [content_digest(source, cache_dir) for source in sources]
        self.given = None if tokenizer_path is None else load_tokenizer(tokenizer_path)
        self.given_parts = [source.part for source in sources]
        if self.given is None:
            trained = (TRAINING_CHARACTERS, version("sentencepiece"))
            key = _digest(*self.digests, self.given_parts, split_settings, vocab_size, *trained)
        else:
            key = _digest(self.given.backend_tokenizer.to_str())
        self.tokenizer = cache_dir / f"tokenizer-{key}"

    def of(self, tokenizer: PreTrainedTokenizerBase) -> Prepared:
        """All of them, by the tokenizer that is kept there."""
        backend = tokenizer.backend_tokenizer.to_str()
        keys = [_digest(digest, backend, self.settings, version("sentencex")) for digest in self.digests]
        parts = self.cache_dir / f"parts-{_digest(*keys, self.given_parts, self.split_settings)}"
        return Prepared(self.tokenizer, [self.cache_dir / f"chunks-{key}" for key in keys], parts)

    def found(self) -> Prepared | None:
        """What is in the cache, if all of it is."""
        if not self.tokenizer.exists():
            return None
        prepared = self.of(load_tokenizer(str(self.tokenizer)))
        return prepared if all(place.exists() for place in (*prepared.chunks, prepared.parts)) else None


def prepare(places: Places, workers: int) -> Prepared:
    """Tokenizer, chunks and parts of every source, taken from the cache or made.

    A folder appears under its final name only when it is complete. Where all are there nothing is written. What is held
    out trains no tokenizer.

    Raises:
        UserError: Bad input (see `corpus` and `tokenization`), or the disk is full or cannot be written.
    """
    if (found := places.found()) is not None:
        return found
    sources, cache_dir = places.sources, places.cache_dir
    try:
        with making(cache_dir) as scratch:

            @functools.cache
            def documents(number: int) -> Dataset | IterableDataset:
                return load_documents(sources[number], scratch / f"documents-{number}")

            @functools.cache
            def looked_at(number: int) -> Dataset:
                some = _beginning(sources[number], documents(number))
                _check_sentences(sources[number], some)
                return some

            if not places.tokenizer.exists():
                tokenizer = _train(places, looked_at) if places.given is None else places.given
                tokenizer.save_pretrained(scratch / "tokenizer")
                os.rename(scratch / "tokenizer", places.tokenizer)
            tokenizer = load_tokenizer(str(places.tokenizer))
            prepared = places.of(tokenizer)
            missing = {folder: number for number, folder in enumerate(prepared.chunks) if not folder.exists()}
            if missing:
                _tell_of_old(cache_dir)
            for number in missing.values():
                looked_at(number)  # all sources are looked at before hours go into the first
            for folder, number in missing.items():
                finished = scratch / folder.name
                write_chunks(sources[number], documents(number), tokenizer, places.settings, finished, workers)
                os.rename(finished, folder)
            if not prepared.parts.exists():
                _write_parts(sources, prepared.chunks, places.split_settings, scratch / prepared.parts.name)
                os.rename(scratch / prepared.parts.name, prepared.parts)
    except (OSError, DatasetGenerationError) as error:
        raise _user_error(error, cache_dir) from error
    return prepared


def _train(places: Places, documents: Callable[[int], Dataset]) -> PreTrainedTokenizerBase:
    """A tokenizer, on what is trained on of each source, by its number."""
    settings = places.split_settings
    trained_on = ("training", None)[: 1 + (settings.development + settings.test < 1)]
    corpora = {n: documents(n) for n, part in enumerate(places.given_parts) if part in trained_on}
    if not corpora:
        raise UserError("data.tokenizer is null, and all documents are held out: name a tokenizer")
    split = [settings if places.given_parts[number] is None else None for number in corpora]
    return train_tokenizer(_training_lines([*corpora.values()], split), places.vocab_size)


def _write_parts(
    sources: Sequence[CorpusSource], chunk_folders: Sequence[Path], settings: SplitSettings, folder: Path
) -> None:
    """The part of each chunk of each source, and what the parts hold, into a folder."""
    chunks = [load_from_disk(str(chunks)) for chunks in chunk_folders]
    given = [None if source.part is None else Part[source.part.upper()] for source in sources]
    documents = [read_documents(*source) for source in zip(chunks, given, strict=True)]
    kept = split_documents(documents, settings)
    folder.mkdir()
    counts = []
    for number, (source, read, parts) in enumerate(zip(chunks, documents, kept.parts, strict=True)):
        of_chunks = parts[read.document]
        np.save(folder / f"{number}.npy", of_chunks)
        tokens = pc.list_value_length(source.data.column("ids")).to_numpy()
        counts.append(
            {
                part.name.lower(): {
                    "documents": int(np.count_nonzero(parts == part)),
                    "tokens": int(tokens[of_chunks == part].sum()),
                    "chunks": int(np.count_nonzero(of_chunks == part)),
                }
                for part in Part
            }
        )
    (folder / SPLIT).write_text(json.dumps({"sources": counts, "moved": kept.moved, "worst": kept.worst}))


def _tell_of_old(cache_dir: Path) -> None:
    old = [chunks for chunks in cache_dir.glob("chunks-*") if "validation_documents" in (chunks / SUMMARY).read_text()]
    if old:
        print(
            f"{cache_dir} holds text that an earlier depthlab prepared in two parts, not three ({len(old)} of its "
            "folders chunks-*): it is not used, but prepared anew; remove the folder if no earlier depthlab needs it",
            file=sys.stderr,
        )


def _beginning(source: CorpusSource, documents: Dataset | IterableDataset) -> Dataset:
    """What can be looked at in any order: all documents, or the first `TRAINING_CHARACTERS` of a streaming source."""
    if isinstance(documents, Dataset):
        return documents
    texts: list[str] = []
    left = TRAINING_CHARACTERS
    for text in read_texts(source, documents):
        texts.append(text)
        left -= len(text)
        if left <= 0:
            break
    return Dataset.from_dict({"text": texts})


def _check_sentences(source: CorpusSource, documents: Dataset) -> None:
    """Raise UserError if a source holds a sentence a row, which only shows in the end otherwise."""
    rows = np.linspace(0, len(documents) - 1, min(len(documents), DOCUMENTS_LOOKED_AT)).astype(int)
    if not any(len(split_sentences(documents[int(row)]["text"] or "")) >= 2 for row in rows):
        raise too_short(source, len(rows))


def summarise(prepared: Prepared) -> dict[str, Any]:
    """Counts of prepared text over all sources, the seconds it took to tokenize, and the parts.

    Keys: documents, dropped, sentences, tokens, chunks, seconds; and of the split: sources, the documents, tokens and
    chunks by part of each; moved, how many documents left the part that they were drawn for; worst, the largest share
    of a held-out document's 13-grams that a part below has.
    """
    total: Counter[str] = Counter()
    for folder in prepared.chunks:
        total.update(json.loads((folder / SUMMARY).read_text()))
    return dict(total) | json.loads((prepared.parts / SPLIT).read_text())


def describe(summary: dict[str, Any], names: Sequence[str]) -> str:
    """For people: a line about a summary of prepared text, and the table of its parts, as Markdown.

    Args:
        summary: As `summarise` makes it.
        names: Of the sources.
    """
    parts = [part for part in Part if part != Part.LEFT_OUT or any(_counts(summary, part, "documents"))]
    table = [
        ["source", *(f"{part.name.lower().replace('_', ' ')}: documents | tokens" for part in parts)],
        ["---", *("---: | ---:" for _ in parts)],
    ]
    columns = [_counts(summary, part, unit) for part in parts for unit in ("documents", "tokens")]
    rows = [*zip(*columns, strict=True)]
    if len(rows) > 1:
        rows.append(tuple(map(sum, columns)))
    for name, row in zip([*names, "all"], rows, strict=False):
        table.append([name, *(f"{count:,}" for count in row)])
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return (
        f"{summary['documents']:,} documents ({summary['dropped']:,} too short), {summary['sentences']:,} sentences, "
        f"{summary['tokens']:,} tokens, {summary['chunks']:,} chunks; tokenized at "
        f"{summary['tokens'] / summary['seconds']:,.0f} tokens/s\n\n{lines}\n\n{summary['moved']:,} documents that "
        "repeat more than a twentieth of their 13-grams went to a lower part or were left out; a held-out document "
        f"shares {100 * summary['worst']:.1f} % at most."
    )


def _counts(summary: dict[str, Any], part: Part, unit: str) -> list[int]:
    return [source[part.name.lower()][unit] for source in summary["sources"]]


def _training_lines(corpora: Sequence[Dataset], splits: Sequence[SplitSettings | None]) -> Iterator[str]:
    """Lines of documents in a fixed random order, up to an equal share of `TRAINING_CHARACTERS` of each source.

    No document gives more than a hundredth of its source's share, or one novel would be all of it; what the digest
    holds out gives nothing.
    """
    share = TRAINING_CHARACTERS // len(corpora)
    for documents, split in zip(corpora, splits, strict=True):
        left = share
        for index in np.random.default_rng(0).permutation(len(documents)):
            text = documents[int(index)]["text"] or ""
            if split is not None and is_held_out(identify(text), split):
                continue
            lines = text[: min(left, max(share // 100, 1 + share // len(documents)))]
            left -= len(lines)
            yield from (line for line in lines.split("\n") if line.strip())
            if left <= 0:
                break


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((FORMAT, *parts)).encode()).hexdigest()[:32]


def _user_error(error: BaseException, cache_dir: Path) -> Exception:
    """What the user can mend, out of what the library wrapped it in."""
    for cause in causes(error):
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, OSError):
            return UserError(
                f"{cache_dir}: preparing the data failed ({cause.strerror or cause}); free some space there or set "
                "data.cache_dir to another folder"
            )
    return error
