"""Documents to chunks of token ids on disk: parallel, in bounded memory, cached by content and settings."""

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from datasets import Dataset, IterableDataset
from datasets.exceptions import DatasetGenerationError

from depthlab.data.cache import making
from depthlab.data.corpora.chunks import SUMMARY, ChunkSettings, too_short, write_chunks
from depthlab.data.corpora.corpus import CorpusSource, content_digest, load_documents, read_texts
from depthlab.data.corpora.sentences import split_sentences
from depthlab.data.tokenization import TRAINING_CHARACTERS, check_vocabulary, load_tokenizer, train_tokenizer
from depthlab.errors import UserError

FORMAT = 1
"""Part of every cache key: raise it when this file, corpus.py, sentences.py or chunks.py changes what is stored."""
DOCUMENTS_LOOKED_AT = 1000
"""Documents of a source, spread over it, of which one must have two sentences before any is tokenized."""


@dataclass(frozen=True)
class Prepared:
    """Folders of the tokenizer, and of the chunks of each source."""

    tokenizer: Path
    chunks: list[Path]


def prepare(
    sources: Sequence[CorpusSource],
    tokenizer_path: str | None,
    vocab_size: int,
    settings: ChunkSettings,
    cache_dir: Path,
    workers: int,
) -> Prepared:
    """Tokenizer and chunks of every source, taken from the cache or made.

    A folder appears under its final name only when it is complete. Where all are there nothing is written.

    Raises:
        UserError: Bad input (see `corpus` and `tokenization`), or the disk is full or cannot be written.
    """
    digests = [content_digest(source) for source in sources]
    if tokenizer_path is None:
        given = None
        key = _digest(*digests, vocab_size, TRAINING_CHARACTERS, version("sentencepiece"))
    else:
        given = load_tokenizer(tokenizer_path)
        check_vocabulary(given, vocab_size)
        key = _digest(given.backend_tokenizer.to_str())
    tokenizer_folder = cache_dir / f"tokenizer-{key}"

    def prepared() -> Prepared | None:
        """What belongs together; None without a tokenizer, on which the chunks depend."""
        if not tokenizer_folder.exists():
            return None
        backend = load_tokenizer(str(tokenizer_folder)).backend_tokenizer.to_str()
        keys = [_digest(digest, backend, settings, version("sentencex")) for digest in digests]
        return Prepared(tokenizer_folder, [cache_dir / f"chunks-{key}" for key in keys])

    found = prepared()
    if found is not None and all(folder.exists() for folder in found.chunks):
        return found
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

            if not tokenizer_folder.exists():
                tokenizer = given
                if tokenizer is None:
                    corpora = [looked_at(number) for number in range(len(sources))]
                    tokenizer = train_tokenizer(_training_lines(corpora), vocab_size)
                    check_vocabulary(tokenizer, vocab_size)
                tokenizer.save_pretrained(scratch / "tokenizer")
                os.rename(scratch / "tokenizer", tokenizer_folder)
            tokenizer = load_tokenizer(str(tokenizer_folder))
            found = prepared()
            missing = {folder: number for number, folder in enumerate(found.chunks) if not folder.exists()}
            for number in missing.values():
                looked_at(number)  # all sources are looked at before hours go into the first
            for folder, number in missing.items():
                finished = scratch / folder.name
                write_chunks(sources[number], documents(number), tokenizer, settings, finished, workers)
                os.rename(finished, folder)
    except (OSError, DatasetGenerationError) as error:
        raise _user_error(error, cache_dir) from error
    return found


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


def summarise(folders: Sequence[Path]) -> dict[str, float]:
    """Counts of prepared text over all sources, and the seconds it took to tokenize.

    Keys: documents, dropped, validation_documents, sentences, tokens, chunks, train_chunks, validation_chunks, seconds.
    """
    total: Counter[str] = Counter()
    for folder in folders:
        total.update(json.loads((folder / SUMMARY).read_text()))
    return dict(total)


def describe(summary: dict[str, float]) -> str:
    """One line for people about a summary of prepared text."""
    return (
        f"{summary['documents']:,} documents ({summary['dropped']:,} too short), {summary['sentences']:,} sentences, "
        f"{summary['tokens']:,} tokens, {summary['chunks']:,} chunks, of which {summary['validation_chunks']:,} for "
        f"validation; tokenized at {summary['tokens'] / summary['seconds']:,.0f} tokens/s"
    )


def _training_lines(corpora: Sequence[Dataset]) -> Iterator[str]:
    """Lines of documents in a fixed random order, up to an equal share of `TRAINING_CHARACTERS` of each source.

    No document gives more than a hundredth of its source's share, or one novel would be all of it.
    """
    share = TRAINING_CHARACTERS // len(corpora)
    for documents in corpora:
        left = share
        for index in np.random.default_rng(0).permutation(len(documents)):
            text = documents[int(index)]["text"] or ""
            lines = text[: min(left, max(share // 100, 1 + share // len(documents)))]
            left -= len(lines)
            yield from (line for line in lines.split("\n") if line.strip())
            if left <= 0:
                break


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((FORMAT, *parts)).encode()).hexdigest()[:32]


def _user_error(error: BaseException, cache_dir: Path) -> Exception:
    """What the user can mend, out of what the library wrapped it in."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, OSError):
            return UserError(
                f"{cache_dir}: preparing the data failed ({cause.strerror or cause}); free some space there or set "
                "data.cache_dir to another folder"
            )
        cause = cause.__cause__ or cause.__context__
    return error
