"""`depthlab predict` over a treebank: its table against one sentence at a time, its means against pandas."""

import numpy as np
import pandas as pd
import pytest
import torch

from depthlab.analysis.tokens import COLUMNS
from depthlab.callbacks import TokenTable
from depthlab.cli import main
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForMaskedLM, AdaptiveAlbertForSequenceClassification, AdaptiveAlbertModel
from depthlab.models.scoring import masked_word_losses
from tests.data.treebanks.treebank_fixtures import conllu
from tests.models.exported import write_run
from tests.support import arguments, error_of, printed_by, run, write_checkpoint

SENTENCES = [
    "The/DET/det/2 crows/NOUN/nsubj/3 circled/VERB/root/0 above/ADP/case/5 me/PRON/obl:agent/3 ./PUNCT/punct/3",
    "Nobody/PRON/nsubj/2 understands/VERB/root/0 uncharacteristically/ADV/advmod/4 long/ADJ/amod/5 words/NOUN/obj/2",
    "No/INTJ/root/0",
    "We/PRON/nsubj/3 do/AUX/aux/3 go/VERB/root/0",
]
LEFT_OUT = "# sent_id = odd\n# text = Something else\n1\tword\t_\tX\t_\t_\t0\troot\t_\t_\n\n"


def write_treebank(folder):
    file = folder / "made.conllu"
    text = "".join(conllu(words, f"sent_id = made-{n}") for n, words in enumerate(SENTENCES * 3))
    file.write_text(text + LEFT_OUT)
    return file


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_checkpoint(folder / "checkpoint", initializer_range=0.6)
    write_treebank(folder)
    return folder


def command(inputs, *more, name="predict", **changes):
    settings = {
        "data.treebank": inputs / "made.conllu",
        "data.max_length": 48,
        "data.batch_size": 4,
        "model.checkpoint": inputs / "checkpoint",
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": False,
    }
    return [*arguments(name, "treebank", settings, **changes), *more]


def one_at_a_time(checkpoint, rows):
    """Depth and remainder of each row, each sentence alone, in the dense execution."""
    model = AdaptiveAlbertModel.from_pretrained(checkpoint, execution="dense").eval()
    tokenizer = load_tokenizer(str(checkpoint))
    found = []
    for number in sorted(rows["sentence"].unique()):
        text = " ".join(word.split("/")[0] for word in SENTENCES[number % len(SENTENCES)].split())
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt"))
        found += list(zip(output.depths[0, 1:-1].tolist(), output.remainders[0, 1:-1].tolist(), strict=True))
    return np.array(found).T


def test_the_table_and_its_means(inputs, tmp_path):
    dump = tmp_path / "table.parquet"
    printed = printed_by(command(inputs, f"--dump={dump}"))
    rows = pd.read_parquet(dump)
    assert [*rows.columns] == [*COLUMNS, "sentence_id"]
    assert rows["loss"].isna().all() and rows["frequency"].isna().all(), "nobody asked for them"
    assert rows["sentence_id"].unique().tolist() == [f"made-{n}" for n in range(12)], "each once, in order"
    assert rows["model"].unique().tolist() == [str(inputs / "checkpoint")]
    depths, remainders = one_at_a_time(inputs / "checkpoint", rows)
    assert rows["depth"].tolist() == depths.tolist() and rows["depth"].nunique() > 1
    np.testing.assert_allclose(rows["remainder"], remainders, atol=1e-5)
    for word in SENTENCES[1].split():
        form, upos, deprel, _ = word.split("/")
        of = rows[(rows["form"] == form)]
        assert (of["upos"] == upos).all() and (of["deprel"] == deprel).all() and len(of) >= 3
    assert (rows["form"] == "uncharacteristically").sum() > 3, "a word of several pieces has its label on each"

    for labels in (rows["deprel"].str.split(":").str[0], rows["upos"]):
        for name, depths in rows["depth"].groupby(labels):
            pieces, mean, std, *_ = (cell.strip() for cell in line_of(printed, name).strip("|").split("|")[1:])
            assert (pieces, std) == (f"{len(depths):,}", f"{depths.std():.2f}")
            assert mean.strip("*").partition(" [")[0] == f"{depths.mean():.2f}"  # an interval from ten sentences on
    assert "12 sentences" in printed and "1 sentences not aligned" in printed and f"table  {dump}\n" in printed


def line_of(printed, label):
    (line,) = (line for line in printed.splitlines() if line.startswith(f"| {label} "))
    return line


def test_any_runs_checkpoint_whatever_its_head(inputs, tmp_path):
    """A run is named by --ckpt_path as by --model.checkpoint; its own tokenizer is taken."""
    model = AdaptiveAlbertForSequenceClassification.from_pretrained(inputs / "checkpoint")
    last = write_run(tmp_path / "run", model, load_tokenizer(str(inputs / "checkpoint")))
    main(command(inputs, f"--dump={tmp_path}/exported.parquet"))
    # without the link of the tokenizer to `model.checkpoint`, and with the treebank as a list of files
    files = f"[{inputs}/made.conllu]"
    (tmp_path / "run.parquet").write_bytes((tmp_path / "exported.parquet").read_bytes())
    printed = printed_by(
        command(inputs, f"--dump={tmp_path}/run.parquet", model__checkpoint="no", ckpt_path=last, data__treebank=files)
    )
    assert f"table  {tmp_path}/run.parquet, in place of the one of before\n" in printed
    with pytest.raises(
        UserError, match=r"--dump .*\.xlsx: the table is in Parquet: name a file that ends in \.parquet"
    ):
        TokenTable(tmp_path / "run.xlsx").on_predict_start(None, None)
    exported, of_run = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("exported", "run"))
    assert of_run["model"].unique().tolist() == [str(last)]
    pd.testing.assert_frame_equal(exported.drop(columns="model"), of_run.drop(columns="model"))
    assert not list((tmp_path / "run").glob("predictions*"))


def test_losses_of_masked_words_and_frequencies(inputs, tmp_path):
    (tmp_path / "corpus.txt").write_text("We don't go. The crows go, they'd go... " * 5)
    corpus = f"--data.frequencies={tmp_path}/corpus.txt"
    main(command(inputs, f"--dump={tmp_path}/table.parquet", corpus, model__losses=True))
    rows = pd.read_parquet(tmp_path / "table.parquet")
    model = AdaptiveAlbertForMaskedLM.from_pretrained(inputs / "checkpoint").eval()
    tokenizer = load_tokenizer(str(inputs / "checkpoint"))
    for number, sentence in rows[rows["sentence"] < len(SENTENCES)].groupby("sentence"):
        text = " ".join(word.split("/")[0] for word in SENTENCES[number].split())
        given = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        words = torch.tensor([[-1, *sentence["word"], -1]])
        with torch.no_grad():
            losses = masked_word_losses(model, **given, words=words, mask_id=tokenizer.mask_token_id)
        np.testing.assert_allclose(sentence["loss"], losses[0, 1:-1], rtol=1e-4)

    words = 13 * 5  # we do n't go . the crows go , they 'd go ...
    million = (words + 11) / 1e6
    frequencies = rows.groupby("form")["frequency"].first()
    assert frequencies["do"] == pytest.approx(np.log10((5 + 1) / million))
    assert frequencies["go"] == pytest.approx(np.log10((15 + 1) / million))
    assert frequencies["Nobody"] == pytest.approx(np.log10(1 / million)) == frequencies.min()


BAD = {
    "no treebank": ({"data__treebank": "null"}, "--data.treebank FILE"),
    "no file": ({"data__treebank": "no/such.conllu"}, "no/such.conllu: no such file or folder"),
    "no model": ({"model__checkpoint": "no/such/run"}, "no/such/run"),
    "too long for the model": ({"data__max_length": 65}, "64 position embeddings"),
    "length": ({"data__max_length": 2}, "data.max_length is 2"),
    "no folder for the table": ({"dump": "no/such/table.parquet"}, "there is no folder no/such"),
    "no corpus": (
        {"data__frequencies": "no/such/corpus"},
        "no/such/corpus: no such file or folder; correct data.frequencies",
    ),
    "checkpoint that is none": ({"ckpt_path": "no/such.ckpt"}, "no/such.ckpt"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_gets_one_line(inputs, capsys, name):
    changes, message = BAD[name]
    assert message in error_of(capsys, command(inputs, **changes))


@pytest.mark.parametrize("name", ["fit", "validate", "test"])
def test_there_is_nothing_but_to_predict(inputs, capsys, name):
    assert f"nothing to {name} in treebank, only to predict" in error_of(capsys, command(inputs, name=name))


def test_a_treebank_is_not_overwritten(inputs, capsys):
    treebank = inputs / "made.conllu"
    before = treebank.read_bytes()
    assert "is no table in Parquet" in error_of(capsys, command(inputs, dump=treebank))
    assert treebank.read_bytes() == before


def test_losses_need_a_head(inputs, tmp_path, capsys):
    model = AdaptiveAlbertForSequenceClassification.from_pretrained(inputs / "checkpoint")
    model.save_pretrained(tmp_path / "classifier")
    load_tokenizer(str(inputs / "checkpoint")).save_pretrained(tmp_path / "classifier")
    bad = command(inputs, model__checkpoint=tmp_path / "classifier", model__losses=True)
    assert "model.losses needs a model that predicts masked pieces" in error_of(capsys, bad)


@pytest.mark.full
def test_two_ranks_make_the_same_table(inputs, tmp_path):
    run(command(inputs, f"--dump={tmp_path}/one.parquet"))
    run(command(inputs, f"--dump={tmp_path}/two.parquet", trainer__devices=2, trainer__strategy="ddp"))
    one, two = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two, rtol=1e-5)
