"""How much a corpus will be when it is prepared, by a look at its first documents."""

from itertools import islice
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from depthlab.data.corpora.chunks import ChunkSettings, chunk_texts
from depthlab.data.corpora.corpus import SAMPLE, TEXTS, CorpusSource, find_files, read_documents
from depthlab.data.folders import is_of
from depthlab.data.lines import read_lines

FILES_LOOKED_AT = 20
CHARACTERS_LOOKED_AT = 1_000_000
"""In all; of each file an equal share."""


def look_at(
    source: CorpusSource, tokenizer: PreTrainedTokenizerBase, settings: ChunkSettings
) -> dict[str, float] | None:
    """Tokens, sentences, chunks and 13-grams of all its parts, extrapolated by bytes; None where a source's can't be.

    Raises:
        UserError: A file is missing or malformed.
    """
    files = find_files(source)
    if files is None or source.path == SAMPLE:
        return None
    texts: list[str] = []
    seen = 0
    some = files[:: -(-len(files) // FILES_LOOKED_AT)]
    for file in some:
        left = CHARACTERS_LOOKED_AT // len(some)
        found = []
        for document in read_documents(source, [file]):
            found.append(document["text"])
            left -= len(found[-1])
            if left <= 0:
                break
        texts += found
        seen += _bytes_of(file, found)
    rows = chunk_texts(texts, tokenizer, settings)
    scale = sum(map(_uncompressed, files)) / seen
    counts = {
        "tokens": sum(map(len, rows["ids"])),
        "sentences": sum(map(len, rows["sentence_lengths"])),
        "chunks": len(rows["ids"]),
        "grams": sum(map(len, rows["grams"])),
    }
    return {name: count * scale for name, count in counts.items()}


def _bytes_of(file: Path, documents: list[str]) -> int:
    """What its first documents take of an uncompressed file; in .jsonl with all that stands in their lines."""
    if is_of(file, TEXTS):
        return sum(len(document.encode()) for document in documents)
    lines = (line for _, line in read_lines(file) if line.strip())
    return sum(len(line.encode()) for line in islice(lines, len(documents)))


def _uncompressed(file: Path) -> int:
    """Bytes; gzip keeps them in its last four, up to 4 GB."""
    if file.suffix.lower() != ".gz":
        return file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        return int.from_bytes(stream.read(), "little")
