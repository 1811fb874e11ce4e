"""What is said of your own files where they are not what they should be, and of what is done with them."""

import pytest
from lightning.pytorch.trainer.states import TrainerFn

from depthlab.data.benchmarks.own import OwnDataModule
from depthlab.errors import UserError
from tests.support import UNIGRAM

from .own_fixtures import write_bio, write_table


def said_of(folder, text, name="train.csv", **settings):
    """The error that a file to train on ends in."""
    (folder / name).write_text(text)
    with pytest.raises(UserError) as error:
        OwnDataModule(**{"train": str(folder / name), "val": str(folder / name)} | settings).read()
    return str(error.value)


def test_a_row_of_a_csv_is_named_by_the_line_where_it_begins(tmp_path):
    said = said_of(tmp_path, 'text,label\na,b\n"c\nd",e\n"open,b\nf,b\n')
    assert said.startswith(f"{tmp_path}/train.csv, line 5: not CSV (unexpected end of data)")
    said = said_of(tmp_path, 'text,label\n"open,b\nf,b\n"g ""h""",b\n')
    assert said.startswith(f"{tmp_path}/train.csv, line 2: not CSV ")
    assert "line 3: the column 'label' is empty" in said_of(tmp_path, 'text,label\na,b\n"c\nd",\n')


@pytest.mark.parametrize(
    ("name", "header", "parted"), [("a.csv", "text;label", "commas"), ("a.tsv", "text,label", "tabs")]
)
def test_what_parts_columns_is_said(tmp_path, name, header, parted):
    said = said_of(tmp_path, f"{header}\na;b\n", name)
    assert said == f"{tmp_path}/{name}, line 1: one column, {header!r}; {parted} part columns here"


def test_files_are_of_one_kind(tmp_path):
    words, table = str(write_bio(tmp_path / "a.bio", 0)), str(tmp_path / "b.tsv")
    kinds = r"all files of tags end in \.conllu, \.bio, .*, all of classes and numbers in \.tsv, \.csv, \.jsonl"
    for at_fault, files in {
        f"data.val {table}: data.kind is tags": {"train": words, "val": table},
        f"data.test {words}: data.kind is classes": {"train": table, "val": table, "test": words},
        "data.train a.xlsx: data.kind is classes": {"train": "a.xlsx", "val": table},
    }.items():
        with pytest.raises(UserError, match=f"^{at_fault}; {kinds}$"):
            OwnDataModule(**files)
    with pytest.raises(UserError, match=f"^{tmp_path} is a folder; name a file in it with data.train$"):
        OwnDataModule(train=str(tmp_path), val=table)


def test_labels_that_are_numbers_may_be_meant_as_such(tmp_path):
    dev = write_table(tmp_path / "dev.tsv", ["text", "label"], [("a crow", 99)])
    rows = "".join(f"a crow,{number}\n" for number in range(30))
    said = said_of(tmp_path, f"text,label\n{rows}", val=str(dev))
    assert said.endswith("must be one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more; or say data.kind numbers")
    said = said_of(tmp_path, "text,label\na,good\nb,1\n", val=str(dev))
    assert said.endswith("must be one of 1, good")


def test_what_is_cut_and_what_is_missing(tmp_path, caplog):
    rows = [("a", 0), ("a crow near the old tower", 1), ("the old tower", 0)]
    file = str(write_table(tmp_path / "all.tsv", ["text", "label"], rows))
    for max_length, cut in ((5, "; 2 of 3 reach 5 pieces, where texts are cut (data.max_length)"), (64, "")):
        module = OwnDataModule(file, tokenizer=str(UNIGRAM), max_length=max_length, cache_dir=str(tmp_path / "cache"))
        caplog.clear()
        with caplog.at_level("INFO"):
            module.prepare_data()
        assert f"Own all: 3 train{cut}" in caplog.messages
    with pytest.raises(UserError, match=r"no dev of all, which fit needs, only train; name it with data\.val$"):
        module.setup(TrainerFn.FITTING)


def test_predictions_are_called_after_what_is_predicted(tmp_path):
    for test, name in {"other.tsv": "other.tsv", "x/news.v1.jsonl.gz": "news.v1.tsv"}.items():
        assert OwnDataModule("a.tsv", "b.tsv", test).prediction_file("test") == name
