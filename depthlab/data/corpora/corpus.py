"""Documents out of text files, JSONL, Hugging Face datasets and the sample corpus."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, IterableDataset, Value, load_dataset
from datasets.exceptions import DatasetGenerationError
from huggingface_hub import snapshot_download

from depthlab.data.corpora.digests import digest_files
from depthlab.data.corpora.parts import Part
from depthlab.data.corpora.sample import read_sample, sample_file
from depthlab.data.folders import files_at, is_of
from depthlab.data.hub import announce, may_be_on_hub
from depthlab.data.lines import read_lines, read_objects
from depthlab.errors import UserError
from depthlab.hub_errors import reason, retried

SAMPLE = "sample"
PART_NAMES = [part.name.lower() for part in Part if part != Part.LEFT_OUT]
TEXTS, RECORDS = (".txt", ".txt.gz"), (".jsonl", ".jsonl.gz")
TEXT_TYPES = ("string", "large_string", "string_view")
LONGEST_DOCUMENT = 1_000_000
"""Characters after which a document of a .txt file is cut at the end of a line, and a line itself: a file without a
single blank line must neither be read whole nor go to one part of the corpus."""


@dataclass(frozen=True)
class CorpusSource:
    """One source of documents.

    Attributes:
        path: "sample" (the King James Bible), a folder or a file (.txt with documents
            separated by blank lines, .jsonl, or either with .gz), or the name of a Hugging Face dataset.
        weight: Passes over this source that one epoch takes: 0.5 takes half of it, and the other half the next time;
            2.0 takes it twice, with different masks.
        name: Configuration of the Hugging Face dataset.
        split: Split of the Hugging Face dataset.
        text_field: Field of a JSON line, or column of a dataset, that holds the text of one document.
        streaming: Cut documents into chunks as they arrive, for a corpus too large for the disk: nothing but the chunks
            is written. The chunks are the same, and so are their weight and the parts; but a tokenizer is
            trained on the first documents, not on some from everywhere, and `split` can't be a slice.
        whole_files: Take each .txt as one document, whatever blank lines it has; each is read into memory.
        part: "training", "development" or "test", for all documents of the source; by default all three, by document.
    """

    path: str
    weight: float = 1.0
    name: str | None = None
    split: str = "train"
    text_field: str = "text"
    streaming: bool = False
    whole_files: bool = False
    part: str | None = None

    def __post_init__(self) -> None:
        for field in ("path", "name", "split", "text_field"):
            value = getattr(self, field)
            if not isinstance(value, str) and not (field == "name" and value is None):
                raise UserError(f"data.corpus: `{field}` is {value!r}; it must be text")
        for field in ("streaming", "whole_files"):
            if not isinstance(getattr(self, field), bool):
                raise UserError(f"data.corpus: `{field}` is {getattr(self, field)!r}; it must be true or false")
        if self.part not in (None, *PART_NAMES):
            raise UserError(f"data.corpus: `part` is {self.part!r}; it must be {' or '.join(PART_NAMES)}, or null")
        if self.path in ("", "null"):  # what the command line makes of `data.corpus=null`
            raise UserError("data.corpus is empty: name at least one source")
        if type(self.weight) not in (int, float) or not 0 < self.weight < math.inf:
            raise UserError(
                f"data.corpus: the `weight` of {self.path!r} is {self.weight!r}; it must be a number above 0"
            )


def as_sources(
    corpus: str | dict[str, Any] | CorpusSource | Sequence[str | dict[str, Any] | CorpusSource],
) -> list[CorpusSource]:
    """Every way to write the setting `data.corpus`, as a list of sources.

    Raises:
        UserError: No source at all, a mapping with an unknown key or without `path`, or a value of the wrong type.
    """
    entries = list(corpus) if isinstance(corpus, list | tuple) else [corpus]
    if not entries:
        raise UserError("data.corpus is empty: name at least one source")
    return [_as_source(entry) for entry in entries]


def _as_source(entry: str | dict[str, Any] | CorpusSource) -> CorpusSource:
    if isinstance(entry, CorpusSource):
        return entry
    if isinstance(entry, str):
        return CorpusSource(entry)
    known = {field.name for field in fields(CorpusSource)}
    if not isinstance(entry, dict) or "path" not in entry or not known.issuperset(entry):
        raise UserError(f"data.corpus: {entry!r} must be text, or have `path` and only keys of {sorted(known)}")
    return CorpusSource(**entry)


def load_documents(source: CorpusSource, folder: Path) -> Dataset | IterableDataset:
    """All documents of a source as a dataset with the one column `text`, None where a row of a hub's dataset has none.

    It is memory-mapped; a streaming source's can only be read from its beginning, and lies nowhere.

    Args:
        source: Where the documents are.
        folder: Scratch folder for the Arrow files.

    Raises:
        UserError: The source is missing, empty or malformed; the message names the file and the line. A streaming
            source's may come while it is read.
        OSError: The scratch folder can't be written.
    """
    files = find_files(source)
    if files is None:
        documents = _load_hub_dataset(source).select_columns([source.text_field])
        return documents if source.text_field == "text" else documents.rename_column(source.text_field, "text")
    if not any(document["text"] for document in read_documents(source, files)):
        raise UserError(f"data.corpus: {source.path} holds no document; point data.corpus to some text")
    features, arguments = Features({"text": Value("large_string")}), {"source": source, "files": files}
    if source.streaming:
        return IterableDataset.from_generator(read_documents, features, gen_kwargs=arguments)
    try:
        return Dataset.from_generator(
            read_documents,
            features=features,
            cache_dir=str(folder),
            gen_kwargs=arguments,
            fingerprint="documents",  # the folder is new, so nothing needs telling apart
        )
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None


def read_texts(source: CorpusSource, documents: Dataset | IterableDataset) -> Iterator[str]:
    """The texts of a source's documents, or of a shard of them, "" for a row that has none.

    Raises:
        UserError: A streaming source fails on the way.
    """
    try:
        for row in documents:
            yield row["text"] or ""
    except UserError:
        raise
    except Exception as error:  # files raise nothing else, so it is the hub
        raise hub_failure(source, error) from error


def content_digest(source: CorpusSource, cache_dir: Path) -> str:
    """SHA-256 (hexadecimal) of everything in a source that its documents depend on.

    Files are read where they have changed since the cache saw them (see `digests`).

    Raises:
        UserError: The source is missing or cannot be read.
    """
    digest = hashlib.sha256(source.text_field.encode() + b" by file" * source.whole_files)
    if (files := find_files(source)) is None:
        announce(source.path)
        digest.update(json.dumps([source.path, source.name, source.split]).encode())
        digest.update((_revision(source) if source.streaming else _load_hub_dataset(source)._fingerprint).encode())
    else:
        for file, content in zip(files, digest_files(files, cache_dir), strict=True):
            digest.update(f"\n{''.join(file.suffixes).lower()}\n".encode() + bytes.fromhex(content))
    return digest.hexdigest()


def find_files(source: CorpusSource) -> list[Path] | None:
    """The files of a source in a fixed order; None for a Hugging Face dataset.

    Raises:
        UserError: There are none.
    """
    if source.path == SAMPLE:
        return [sample_file()]
    path = Path(source.path).expanduser()
    if not os.path.lexists(path) and may_be_on_hub(source.path):
        return None
    return files_at(path, TEXTS + RECORDS, "data.corpus")


def _load_hub_dataset(source: CorpusSource) -> Dataset | IterableDataset:
    try:
        if source.streaming:
            dataset = retried(
                lambda: load_dataset(
                    source.path, source.name, split=source.split, revision=_revision(source), streaming=True
                )._resolve_features()  # by a look at the first rows, where the repository doesn't say its columns
            )
        else:
            dataset = retried(lambda: load_dataset(source.path, source.name, split=source.split))
    except UserError:
        raise
    except Exception as error:  # the library raises anything from ConnectionError to ValueError here
        raise hub_failure(source, error) from error
    column = dataset.features.get(source.text_field)
    if not isinstance(column, Value) or column.dtype not in TEXT_TYPES:
        texts = [
            name for name, kind in dataset.features.items() if isinstance(kind, Value) and kind.dtype in TEXT_TYPES
        ]
        raise UserError(
            f"data.corpus: {source.path!r} has no column {source.text_field!r} of text; set text_field to one of "
            f"{texts}"
        )
    return dataset


def hub_failure(source: CorpusSource, error: Exception) -> UserError:
    """For a user: that a dataset can't be had from the hub, and why."""
    return UserError(
        f"data.corpus: {source.path!r} is neither a file or folder here nor a Hugging Face dataset that loads "
        f"({reason(error)}); correct it or fetch the text yourself"
    )


def _revision(source: CorpusSource) -> str:
    """The commit of a dataset on the hub: of its card alone, which the cache keeps for when there is no network."""
    try:
        return Path(
            retried(lambda: snapshot_download(source.path, repo_type="dataset", allow_patterns="README.md"))
        ).name
    except Exception as error:  # as above
        raise hub_failure(source, error) from error


def read_documents(source: CorpusSource, files: list[Path]) -> Iterator[dict[str, str]]:
    """The documents in some files of a source, each `{"text": ...}`; that of a JSON object without text is "".

    Raises:
        UserError: A file cannot be read, or is malformed; the message names the line.
    """
    for file in files:
        if source.path == SAMPLE:
            documents = read_sample(file)
        elif is_of(file, TEXTS):
            documents = _read_text(file, source.whole_files)
        else:
            documents = _read_jsonl(file, source.text_field)
        for document in documents:
            if document.strip():
                yield {"text": document}
            elif is_of(file, RECORDS):
                yield {"text": ""}


def _read_text(file: Path, whole: bool = False) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    for _, line in read_lines(file):
        for start in range(0, len(line), LONGEST_DOCUMENT):
            lines.append(line[start : start + LONGEST_DOCUMENT])
            size += len(lines[-1])
            if not whole and (not line.strip() or size >= LONGEST_DOCUMENT):
                yield "".join(lines)
                lines, size = [], 0
    yield "".join(lines)


def _read_jsonl(file: Path, text_field: str) -> Iterator[str]:
    for number, record in read_objects(file, "data.corpus"):
        text = record.get(text_field, 0)
        if not isinstance(text, str | None):
            raise UserError(
                f"{file}, line {number}: no text in field {text_field!r}; set text_field in data.corpus or mend "
                "the line"
            )
        yield text or ""  # as the hub's rows, one may have none; it counts among the too short
