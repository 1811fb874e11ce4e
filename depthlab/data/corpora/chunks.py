"""Documents to chunks of token ids on disk, in bounded memory, on several cores."""

import functools
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets
from datasets.arrow_writer import ArrowWriter
from transformers import PreTrainedTokenizerBase

from depthlab.data.corpora.corpus import CorpusSource, read_texts
from depthlab.data.corpora.grams import sampled_grams
from depthlab.data.corpora.parts import Documents, Part
from depthlab.data.corpora.sentences import split_sentences
from depthlab.data.tokenization import TextEncoder
from depthlab.errors import UserError

DOCUMENTS_PER_TASK = 16
"""Documents in a worker's hands at a time, and chunks per Arrow record batch: both bound the memory."""
CHUNKS_PER_RECORD_BATCH = 10_000
SUMMARY = "summary.json"


@dataclass(frozen=True)
class ChunkSettings:
    """What the stored chunks depend on besides text and tokenizer.

    Attributes:
        max_length: Tokens of a sample; a chunk is gathered up to three fewer, for [CLS], [SEP], [SEP].
        short_sequence_probability: Share of the chunks with a shorter target.
    """

    max_length: int
    short_sequence_probability: float


def chunk_sentences(
    lengths: Sequence[int], target_length: int, short_probability: float, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Gather the sentences of one document into chunks, as ALBERT does.

    A chunk ends with the sentence that reaches its target: `target_length` pieces, or with `short_probability` a
    number drawn uniformly from 2 to that (drawn for every chunk; ALBERT draws it once a document). It always holds two
    sentences or more, so that both segments come from one document: a lone last sentence joins the chunk before it,
    and a document of a single sentence gives no chunk.

    Args:
        lengths: Pieces of each sentence.
        target_length: Usual target in pieces.
        short_probability: Chance of a smaller target.
        rng: Source of the targets.

    Returns:
        First sentence, and the one after the last, of each chunk.
    """

    def draw_target() -> int:
        return int(rng.integers(2, target_length + 1)) if rng.random() < short_probability else target_length

    chunks: list[tuple[int, int]] = []
    start, gathered, target = 0, 0, draw_target()
    for end, length in enumerate(lengths, 1):
        gathered += length
        if gathered >= target and end - start >= 2:
            chunks.append((start, end))
            start, gathered, target = end, 0, draw_target()
    rest = len(lengths) - start
    if rest >= 2:
        chunks.append((start, len(lengths)))
    elif rest == 1 and chunks:
        chunks[-1] = (chunks[-1][0], len(lengths))
    return chunks


def write_chunks(
    source: CorpusSource,
    documents: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    settings: ChunkSettings,
    folder: Path,
    workers: int,
) -> None:
    """Chunks of one source into a folder, with their summary; scratch files beside it.

    Beside pieces and sentences a row has its document's number and digest, and the first row of a document has the
    document's `grams`: what the split into parts needs (`read_documents`), without the text.
    """
    started = time.perf_counter()
    features = Features(
        {
            "ids": List(Value("uint16" if len(tokenizer) <= 2**16 else "int32")),
            "sentence_lengths": List(Value("int32")),
            "document": Value("int64"),
            "identity": Value("int64"),  # the bits of uint64, which the writer would not take
            "grams": List(Value("uint64")),
        }
    )
    arguments = {"encoder": TextEncoder(tokenizer), "settings": settings}
    pieces = documents.num_shards if isinstance(documents, IterableDataset) else len(documents)
    processes = min(workers, pieces)
    if isinstance(documents, IterableDataset):
        scratch = folder.with_suffix(".stream")
        scratch.mkdir()
        shares = [share.tolist() for share in np.array_split(np.arange(pieces), processes)]
        chunk = functools.partial(_chunk_stream, source, documents, features, arguments, scratch)
        if processes > 1:
            with ProcessPoolExecutor(processes) as pool:
                parts = list(pool.map(chunk, shares))
        else:
            parts = [chunk(share) for share in shares]
        chunks, count = concatenate_datasets([part for part, _ in parts]), sum(count for _, count in parts)
    else:
        chunks = documents.map(
            _chunk_documents,
            with_indices=True,
            batched=True,
            batch_size=DOCUMENTS_PER_TASK,
            writer_batch_size=CHUNKS_PER_RECORD_BATCH,
            num_proc=processes if processes > 1 else None,
            remove_columns=["text"],
            features=features,
            fn_kwargs=arguments,
            cache_file_name=f"{folder}.arrow",
            load_from_cache_file=False,
            new_fingerprint="chunks",
            desc=f"Preparing {source.path}",
        )
        count = len(documents)
    if len(chunks) == 0:
        raise too_short(source, count)
    chunks.save_to_disk(folder)
    summary = _count(chunks, count)
    summary["seconds"] = time.perf_counter() - started
    (folder / SUMMARY).write_text(json.dumps(summary))


def chunk_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase, settings: ChunkSettings) -> dict[str, list[Any]]:
    """The chunks of some documents in columns, as they are stored."""
    return _chunk_documents({"text": texts}, [*range(len(texts))], TextEncoder(tokenizer), settings)


def _chunk_stream(
    source: CorpusSource,
    documents: IterableDataset,
    features: Features,
    arguments: dict[str, Any],
    scratch: Path,
    shards: list[int],
) -> tuple[Dataset, int]:
    """Chunks of some shards of a streaming source, a document at a time, and how many documents that were."""
    count = 0
    file = scratch / f"{shards[0]}.arrow"
    with ArrowWriter(features=features, path=str(file), writer_batch_size=CHUNKS_PER_RECORD_BATCH) as writer:
        for shard in shards:
            for number, text in enumerate(read_texts(source, documents.shard(documents.num_shards, shard))):
                columns = _chunk_documents({"text": [text]}, [(shard << 32) + number], **arguments)
                for values in zip(*columns.values(), strict=True):
                    writer.write(dict(zip(columns, values, strict=True)))
                count += 1
        writer.finalize()
    return Dataset.from_file(str(file)), count


def too_short(source: CorpusSource, looked_at: int) -> UserError:
    """For a user: that a source has no document of two sentences, among so many."""
    return UserError(
        f"data.corpus: {source.path} has no document of two sentences or more among {looked_at:,}, and a sample takes "
        "two; if a row is a sentence, join those of a book or article into one document (one line of .jsonl, or lines "
        "of .txt up to a blank one)"
    )


def _chunk_documents(
    batch: dict[str, list[str | None]],
    indices: list[int],
    encoder: TextEncoder,
    settings: ChunkSettings,
) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {"ids": [], "sentence_lengths": [], "document": [], "identity": [], "grams": []}
    for index, row in zip(indices, batch["text"], strict=True):
        text = row or ""  # a row of the hub's without a text is one too short
        sentences = [ids for ids in encoder.plain(split_sentences(text)) if ids]
        identity, grams = identify(text), sampled_grams(text)
        lengths = [len(sentence) for sentence in sentences]
        chunks = chunk_sentences(
            lengths, settings.max_length - 3, settings.short_sequence_probability, np.random.default_rng(identity)
        )
        for start, end in chunks:
            rows["ids"].append(np.concatenate(sentences[start:end]))
            rows["sentence_lengths"].append(lengths[start:end])
            rows["document"].append(index)
            rows["identity"].append(int(np.uint64(identity).view(np.int64)))
            rows["grams"].append(grams if start == 0 else grams[:0])
    return rows


def identify(text: str) -> int:
    """A number below 2^64 from the text alone, so that neither order nor workers matter and duplicates are one."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def read_documents(chunks: Dataset, given: Part | None) -> Documents:
    """What the split into parts needs of stored chunks, whose grams stay on the disk."""
    table = chunks.data
    _, first, document = np.unique(np.asarray(table.column("document")), return_index=True, return_inverse=True)

    def grams() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        row = 0
        for batch in table.table.select(["grams"]).to_batches(CHUNKS_PER_RECORD_BATCH):
            lists = batch.column("grams")
            parents = pc.list_parent_indices(lists).to_numpy()
            yield pc.list_flatten(lists).to_numpy(), document[row + parents]
            row += len(lists)

    return Documents(np.asarray(table.column("identity"))[first].view(np.uint64), document, grams, given)


def _count(chunks: Dataset, documents: int) -> dict[str, int]:
    table = chunks.data
    return {
        "documents": documents,
        "dropped": documents - len(np.unique(np.asarray(table.column("document")))),
        "sentences": pc.sum(pc.list_value_length(table.column("sentence_lengths"))).as_py(),
        "tokens": pc.sum(pc.list_value_length(table.column("ids"))).as_py(),
        "chunks": len(chunks),
    }
