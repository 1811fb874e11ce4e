"""The table of tokens on disk: what comes back, and what is said of a table that is none."""

import numpy as np
import pandas as pd
import pytest

from depthlab.analysis.tokens import COLUMNS, read_tokens, write_tokens
from depthlab.errors import UserError
from tests.analysis.token_tables import token_table


def test_round_trip(tmp_path):
    table = token_table().assign(sentence_id="s-1")
    table.loc[table.sentence == 3, ["upos", "deprel"]] = None
    table.loc[::7, "loss"] = np.nan
    for _ in range(2):  # the second replaces the first
        write_tokens(table, tmp_path / "tokens.parquet")
    read = read_tokens([tmp_path / "tokens.parquet"])
    pd.testing.assert_frame_equal(read, table[[*COLUMNS, "sentence_id"]])
    assert [file.name for file in tmp_path.iterdir()] == ["tokens.parquet"]


def test_what_was_not_measured_is_nan(tmp_path):
    token_table().drop(columns=["frequency", "loss"]).to_parquet(tmp_path / "tokens.parquet")
    read = read_tokens([tmp_path / "tokens.parquet"])
    assert list(read) == list(COLUMNS) and read[["frequency", "loss"]].isna().all(axis=None)


def test_models_of_several_files(tmp_path):
    for model in "ab":
        token_table(model=model).to_parquet(tmp_path / f"{model}.parquet")
    read = read_tokens([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert dict(read.model.value_counts()) == dict.fromkeys("ab", len(token_table()))
    with pytest.raises(UserError, match=r"more than one has sentences of a; name each model once"):
        read_tokens([tmp_path / "a.parquet"] * 2)


def test_treebanks_of_one_model(tmp_path):
    """By the name of the first file with its documents; the same sentences twice are no second treebank."""
    table = token_table().drop(columns="treebank")
    for name, prefix in (("one", "a"), ("other", "b"), ("again", "a")):
        table.assign(document=prefix + table.document).to_parquet(tmp_path / f"{name}.parquet")
    read = read_tokens([tmp_path / "one.parquet", tmp_path / "other.parquet"])
    assert dict(read.treebank.value_counts()) == dict.fromkeys(("one", "other"), len(table))
    table.assign(document="a" + table.document, model="theirs").to_parquet(tmp_path / "theirs.parquet")
    read = read_tokens([tmp_path / f"{name}.parquet" for name in ("one", "other", "theirs")])
    assert read.groupby("model").treebank.unique().map(list).to_dict() == {"ours": ["one", "other"], "theirs": ["one"]}
    with pytest.raises(UserError, match=r"more than one has sentences of ours"):
        read_tokens([tmp_path / "one.parquet", tmp_path / "again.parquet"])


@pytest.mark.parametrize("name", [name for name, column in COLUMNS.items() if column.presence != "if measured"])
def test_a_column_is_missing(name, tmp_path):
    token_table().drop(columns=name).to_parquet(tmp_path / "tokens.parquet")
    with pytest.raises(UserError, match=rf"tokens\.parquet: the table has no column {name} \(.+write it anew"):
        read_tokens([tmp_path / "tokens.parquet"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.head(0), "the table has no rows"),
        (lambda table: table.assign(depth=table.depth.astype(str)), "column depth holds (str|object), not integers"),
        (lambda table: table.assign(depth=table.depth + 0.5), "column depth holds float64, not integers"),
        (lambda table: table.assign(upos=1), "column upos holds int64, not texts"),
        (lambda table: table.assign(loss="high"), "column loss holds (str|object), not numbers"),
        (lambda table: table.assign(remainder=table.remainder.where(table.index != 5)), "row 5: there is no remainder"),
        (lambda table: table.assign(treebank=table.treebank.where(table.index != 5)), "row 5: there is no treebank"),
        (lambda table: table.assign(form=[[1]] * len(table)), "column form holds object, not texts"),
        (lambda table: table.assign(loss=np.inf), "row 0: loss is inf"),
        (lambda table: table.assign(pieces=0), "row 0: pieces is 0"),
        (lambda table: table.assign(word=0), r"the pieces of word 0 of sentence \d+ differ in their form"),
        (lambda table: pd.concat([table, table.tail(1)]), r"of ours has two pieces at position \d+"),
    ],
)
def test_no_such_table(change, message, tmp_path):
    table = change(token_table())
    with pytest.raises(UserError, match=message):
        write_tokens(table, tmp_path / "written.parquet")
    table.to_parquet(tmp_path / "tokens.parquet")
    with pytest.raises(UserError, match=message):
        read_tokens([tmp_path / "tokens.parquet"])
    assert not (tmp_path / "written.parquet").exists()


def test_files(tmp_path):
    with pytest.raises(UserError, match="no such file; depthlab predict --dump"):
        read_tokens([tmp_path / "tokens.parquet"])
    (tmp_path / "tokens.parquet").write_text("no table\n")
    with pytest.raises(UserError, match="not a table in Parquet"):
        read_tokens([tmp_path / "tokens.parquet"])
    with pytest.raises(UserError, match="cannot write the table to "):
        write_tokens(token_table(), tmp_path / "tokens.parquet/none")
