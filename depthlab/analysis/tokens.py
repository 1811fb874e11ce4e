"""The table behind every statistic of words: one row for each piece of a word that a model has read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype, is_integer_dtype, is_string_dtype

from depthlab.errors import UserError
from depthlab.files import writing


class Column(NamedTuple):
    """What a column of the table holds."""

    holds: Literal["texts", "integers", "numbers"]
    meaning: str
    presence: Literal["everywhere", "where known", "if measured"] = "everywhere"
    """Everywhere: no value is missing. Where known: values may be missing. If measured: the column may be missing."""


COLUMNS: dict[str, Column] = {
    "model": Column("texts", "which model, by the name that it has in tables"),
    "treebank": Column("texts", "which treebank; by the name of the file where that does not say", "if measured"),
    "sentence": Column("integers", "the sentence's number, from 0, the only one of this number of its model"),
    "document": Column("texts", "where the sentence comes from"),
    "word": Column("integers", "the word's number in its sentence, from 0"),
    "form": Column("texts", "the word as it is written"),
    "piece": Column("integers", "the piece's number in its word, from 0"),
    "token": Column("texts", "the piece as the vocabulary has it"),
    "pieces": Column("integers", "how many pieces the word has"),
    "upos": Column("texts", "the word's part of speech", "where known"),
    "deprel": Column("texts", "the word's relation to its head, subtype included", "where known"),
    "kind": Column("texts", "the name of its TokenKind"),
    "depth": Column("integers", "N_t: iterations of the piece"),
    "remainder": Column("numbers", "R_t"),
    "position": Column("integers", "the piece's number in the model's input, where [CLS] is 0"),
    "sentence_length": Column("integers", "words of the sentence"),
    "frequency": Column("numbers", "log10 of the form's occurrences per million words of a corpus", "if measured"),
    "loss": Column("numbers", "the model's own masked-LM loss on the piece when it is masked, in nats", "if measured"),
}
"""All that statistics read. A table may have other columns, which are kept."""

LARGEST = 2**31
"""Of numbers, either way."""
WORD = ["model", "treebank", "sentence", "word"]
ALIKE = ["document", "form", "pieces", "upos", "deprel", "sentence_length"]
"""What all pieces of a word share."""
KEY = ["model", "treebank", "sentence", "position"]
"""What no two rows share."""

_HOLDS = {"texts": is_string_dtype, "integers": is_integer_dtype, "numbers": is_float_dtype}


def _least(name: str, column: Column) -> int:
    """The lowest number that a column may have."""
    return -LARGEST if column.holds == "numbers" else int(name in ("pieces", "depth", "sentence_length"))


def read_tokens(files: Sequence[Path]) -> pd.DataFrame:
    """Tables in Parquet, such as `depthlab predict --dump FILE.parquet` writes, into one, as :func:`join_tokens`."""
    return join_tokens([(file, read_table(file)) for file in files])


def read_table(file: Path) -> pd.DataFrame:
    """One table, as :func:`check_tokens` gives it.

    Raises:
        UserError: The file can't be read, or is not such a table.
    """
    try:
        table = pd.read_parquet(file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; depthlab predict --dump {file} writes one") from None
    except (OSError, ValueError) as error:  # pyarrow's are of these
        raise UserError(f"{file}: not a table in Parquet ({' '.join(str(error).split())})") from None
    return check_tokens(table, str(file))


def join_tokens(tables: Sequence[tuple[Path, pd.DataFrame]]) -> pd.DataFrame:
    """Tables, each with its file, into one: a model and a treebank each, or more.

    Returns:
        The columns of :data:`COLUMNS` in their order, then those of the files that are not among them. What was not
        measured is nan; a table that does not say which treebank it is of has its file's name there, or that of the
        first file with one of its documents.

    Raises:
        UserError: Two have the same sentences of the same model.
    """
    named: dict[str, str] = {}  # treebanks by document
    found = []
    for file, table in tables:
        if table.treebank.isna().all():
            documents = table.document.unique()
            own = str(file) if file.stem in named.values() else file.stem
            name = next((named[document] for document in documents if document in named), own)
            named.update(dict.fromkeys(documents, name))
            table = table.assign(treebank=name)
        found.append(table)
    together = pd.concat(found, ignore_index=True)
    again = together.duplicated(["model", "document", "sentence", "position"])
    if again.any():
        model = together.model[again].iloc[0]
        files = ", ".join(str(file) for file, _ in tables)
        raise UserError(f"{files}: more than one has sentences of {model}; name each model once")
    return together


def write_tokens(tokens: pd.DataFrame, file: Path) -> None:
    """Write a table in Parquet; one that is there is replaced once the new one is complete.

    Raises:
        UserError: It is not such a table, or the file can't be written.
    """
    tokens = check_tokens(tokens, str(file))
    with writing("the table to", file) as unfinished:
        tokens.to_parquet(unfinished, index=False)


def check_tokens(tokens: pd.DataFrame, source: str) -> pd.DataFrame:
    """Hold a table, which messages call by its source, against :data:`COLUMNS`.

    Returns:
        The table with its columns in order, and nan in those that were not measured.

    Raises:
        UserError: It is empty; a column is missing, holds something else, or lacks values; only some rows name a
            treebank; a piece occurs twice, or those of a word differ in what is the word's.
    """
    if tokens.empty:
        raise UserError(f"{source}: the table has no rows; run depthlab predict over a treebank with sentences in it")
    absent = [name for name, column in COLUMNS.items() if name not in tokens]
    missing = [name for name in absent if COLUMNS[name].presence != "if measured"]
    if missing:
        meanings = "; ".join(f"{name} ({COLUMNS[name].meaning})" for name in missing)
        raise UserError(f"{source}: the table has no column {meanings}; write it anew with depthlab predict --dump")
    tokens = tokens.assign(**dict.fromkeys(absent, np.nan))
    for name, column in COLUMNS.items():
        values = tokens[name]
        if column.presence == "everywhere" and values.isna().any():
            raise UserError(f"{source}, row {values.isna().argmax()}: there is no {name} ({column.meaning})")
        known = values.dropna()
        is_so = _HOLDS[column.holds](known.dtype) and (known.dtype != object or known.map(type).eq(str).all())
        if not is_so and len(known):
            raise UserError(f"{source}: column {name} holds {values.dtype}, not {column.holds} ({column.meaning})")
        beyond = [] if column.holds == "texts" else known[~known.between(_least(name, column), LARGEST)]
        if len(beyond):
            raise UserError(f"{source}, row {beyond.index[0]}: {name} is {beyond.iloc[0]} ({column.meaning})")
    unsaid = tokens.treebank.isna()
    if unsaid.any() and not unsaid.all():
        raise UserError(f"{source}, row {unsaid.idxmax()}: there is no treebank, and other rows have one")
    unlike = tokens.groupby(WORD, sort=False, dropna=False)[ALIKE].nunique(dropna=False) > 1
    if unlike.to_numpy().any():
        name, word = unlike.any().idxmax(), unlike.any(axis=1).idxmax()
        raise UserError(f"{source}: the pieces of word {word[-1]} of sentence {word[-2]} differ in their {name}")
    if tokens.duplicated(KEY).any():
        row = tokens[tokens.duplicated(KEY)].iloc[0]
        raise UserError(f"{source}: sentence {row.sentence} of {row.model} has two pieces at position {row.position}")
    return tokens[[*COLUMNS, *(name for name in tokens if name not in COLUMNS)]]
