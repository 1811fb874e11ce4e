"""The Hugging Face hub, its own clients talking to a stand-in: corpora, GLUE, tokenizers, models, experiments."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sentencepiece
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Value
from transformers import AlbertConfig, AlbertModel

from depthlab.commands.experiment import read_settings
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.data.tokenization import ALBERT_SYMBOLS, load_tokenizer
from tests.data.benchmarks.glue_fixtures import ROWS
from tests.hub import ALBERT, BOOKS, GLUE, LARGE, WIKIPEDIA, Hub, environment, serve
from tests.support import FINE_TUNING, PRETRAINING, REPOSITORY, RETROFIT, write_bert

EVERYTHING = ("wikipedia", "slice", "books", "digests", "glue", "tokenizer", "model")
LONG = 40_000_000
"""Bytes of the large corpus."""


@pytest.fixture(scope="module")
def articles(corpus) -> list[str]:
    return corpus.read_text().strip().split("\n\n")


@pytest.fixture(scope="module")
def hub(tmp_path_factory, articles) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    write_wikipedia(root / "datasets" / WIKIPEDIA, articles)
    write_table(root / "datasets" / BOOKS / "data/train-00000-of-00001.parquet", title=["A"] * 8, text=articles[:8])
    write_large(root / "datasets" / LARGE, articles[0])
    write_glue(root / "datasets" / GLUE)
    write_albert(root / "models" / ALBERT, articles)
    for kind in ("datasets", "models"):
        write_table(root / kind / "org/gated/train.parquet", text=articles)
        (root / kind / "org/gated/config.json").write_text("{}")
        (root / kind / "org/gated/README.md").write_text("# Ask")
    with serve(root) as served:
        served.gated.add("org/gated")
        yield served


def write_table(file: Path, **columns: list) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


def write_card(folder: Path, **content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(content)}---\n# Card\n")


def write_wikipedia(folder: Path, articles: list[str]) -> None:
    """Two configurations, the English one in two files; a row of the second has no text."""
    write_card(
        folder,
        configs=[
            {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train-*"}]}
            for name in ("20231101.de", "20231101.en")
        ],
    )
    half = len(articles) // 2
    for name, parts in {"de": [["Eins. Zwei."]], "en": [articles[:half], [*articles[half:], None]]}.items():
        for number, texts in enumerate(parts):
            write_table(
                folder / f"20231101.{name}/train-{number:05}-of-{len(parts):05}.parquet",
                id=[str(row) for row in range(len(texts))],
                url=["https://x.wikipedia.org/"] * len(texts),
                title=[f"T{row}" for row in range(len(texts))],
                text=texts,
                views=list(range(len(texts))),  # the hub's has none: a column that is no text
            )


def write_large(folder: Path, text: str) -> None:
    """Documents of some 100 kB in four files that are as large as their text."""
    folder.mkdir(parents=True)
    document = text * (100_000 // len(text))
    for number in range(4):
        table = pa.table({"text": [f"{row} {document}" for row in range(LONG // 4 // len(document))]})
        file = folder / f"train-{number:05}-of-00004.parquet"
        pq.write_table(table, file, row_group_size=10, compression="none", use_dictionary=False)


def write_glue(folder: Path) -> None:
    """Labels are classes, every row has an idx, a test split -1 for labels, and texts may end with a blank."""
    configurations = []
    for name, task in [*GLUE_TASKS.items(), ("ax", GLUE_TASKS["mnli"])]:
        matched = ("matched", "mismatched")
        splits = {
            "mnli": ["train", *(f"{part}_{kind}" for part in ("validation", "test") for kind in matched)],
            "ax": ["test"],
        }.get(name, ["train", "validation", "test"])
        rows = ROWS[task.name][::4]
        for split in splits:
            labels = [float(row[0]) if task.is_regression else task.labels.index(row[0]) for row in rows]
            columns = {
                column: [f"{row[1 + place]} " for row in rows] for place, column in enumerate(COLUMNS[task.name])
            }
            columns["label"] = [-1] * len(rows) if split.startswith("test") else labels
            columns["idx"] = list(range(len(rows)))
            label = Value("float32") if task.is_regression else ClassLabel(names=list(task.labels))
            features = dict.fromkeys(columns, Value("string")) | {"label": label, "idx": Value("int32")}
            (folder / name).mkdir(parents=True, exist_ok=True)
            table = Dataset.from_dict(columns, features=Features(features))
            table.to_parquet(folder / name / f"{split}-00000-of-00001.parquet")
        files = [{"split": split, "path": f"{name}/{split}-*"} for split in splits]
        configurations.append({"config_name": name, "data_files": files})
    write_card(folder, configs=configurations)


COLUMNS = {
    "cola": ["sentence"],
    "sst2": ["sentence"],
    **{name: ["sentence1", "sentence2"] for name in ("mrpc", "stsb", "rte", "wnli")},
    "qqp": ["question1", "question2"],
    "mnli": ["premise", "hypothesis"],
    "qnli": ["question", "sentence"],
}


def write_albert(folder: Path, texts: list[str]) -> None:
    """A model and a SentencePiece vocabulary, which is all the tokenizer there is."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "embedding_size": 8}
    config = AlbertConfig(vocab_size=120, max_position_embeddings=64, num_hidden_layers=3, **sizes)
    AlbertModel(config).save_pretrained(folder)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.lower() for text in texts] + ["(semi-final) dog: the quick brown fox jumps"] * 20),
        model_writer=model,
        vocab_size=120,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
        user_defined_symbols=ALBERT_SYMBOLS,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())


def client(hub: Hub, folder: Path, *checks: str, offline: bool = False, text: str = "") -> str:
    """What `tests.hub_client` prints, whose cache of the hub is in a folder."""
    told = environment(hub, folder / "home", offline) | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.hub_client", str(folder), *checks]
    done = subprocess.run(command, env=os.environ | told, input=text, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the cache is that `found` fills."""
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def found(hub, folder) -> dict:
    """By every check, from the hub."""
    streams = ("stream", "titles", "chunks", "parallel")
    failures = [
        f"{state} {kind}" for state in ("gated", "missing") for kind in ("corpus", "stream", "tokenizer", "model")
    ]
    failures += ["no configuration", "no column", "no text"]
    own = ["pairs", "texts", "numbers", "other label"]
    own += ["no text", "no such text", "no label", "no split", "no configuration"]
    failures += [f"own {check}" for check in own]
    return json.loads(client(hub, folder, "large", *EVERYTHING, *streams, *failures).splitlines()[-1])


def test_corpora(found, articles):
    assert found["wikipedia"] == found["stream"] == [*articles, ""]
    assert found["slice"] == articles[:1]
    assert found["titles"][:2] == ["T0", "T1"]
    assert found["books"] == articles[:8]


def test_chunks_of_a_stream_are_the_same(found, articles):
    """By any number of processes; a row without text is one that is too short."""
    whole, stream = found["chunks"]
    assert whole == stream == found["parallel"]
    assert whole["summary"]["documents"] == len(articles) + 1
    assert whole["summary"]["dropped"] == 1
    assert all(part["documents"] for name, part in whole["summary"]["sources"][0].items() if name != "left_out")


def test_a_large_corpus_is_streamed(found, folder):
    """In bounded memory, and nothing of it comes to lie on the disk."""
    assert found["large"]["characters"] > 0.9 * LONG
    assert found["large"]["growth"] < LONG / 2
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < LONG / 10


def test_glue(found):
    for name, task in GLUE_TASKS.items():
        rows = ROWS[name][::4]
        assert list(found["glue"][name]) == list(task.splits)
        for split, (first, labels) in found["glue"][name].items():
            assert first == rows[0][1:], (name, split)
            expected = [float(row[0]) if task.is_regression else task.labels.index(row[0]) for row in rows]
            assert labels == (None if split in task.submissions else pytest.approx(expected)), (name, split)


@pytest.mark.parametrize(("check", "name"), [("pairs", "qqp"), ("texts", "sst2"), ("numbers", "stsb")])
def test_your_own_task(found, check, name):
    """Columns by name, or those that need none; a test split of -1 has no labels."""
    task, rows = found[f"own {check}"], ROWS[name][::4]
    numbers = name == "stsb"
    assert task["labels"] == ([] if numbers else sorted(GLUE_TASKS[name].labels))
    expected = [float(row[0]) if numbers else task["labels"].index(row[0]) for row in rows]
    for split in ("train", "dev", "test"):
        texts, labels = task[split]
        assert texts == [list(column) for column in zip(*(row[1:] for row in rows), strict=True)], split
        if split != "test" or numbers:  # of numbers -1 is one
            assert labels == pytest.approx(expected if split != "test" else [-1.0] * len(rows))
        else:
            assert labels is None


def test_your_own_label_is_the_column_that_is_named(found):
    assert found["own other label"]["train"][1] == [0, 1, 2, 3, 4]


def test_tokenizer_and_model(hub, found):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(hub.root / "models" / ALBERT / "spiece.model"))
    assert found["tokenizer"] == reference.encode("the (semi-final) dog", out_type=str)
    weights = AlbertModel.from_pretrained(hub.root / "models" / ALBERT).embeddings.word_embeddings.weight
    assert found["model"] == pytest.approx(weights.sum().item())


LOG_IN = "hf auth login"


@pytest.mark.parametrize(
    ("check", "parts"),
    [
        *((f"gated {kind}", ["it is gated", LOG_IN]) for kind in ("corpus", "stream", "tokenizer", "model")),
        *((f"missing {kind}", ["none of that name", LOG_IN]) for kind in ("corpus", "stream", "tokenizer", "model")),
        ("no configuration", ["20231101.xx", "20231101.de"]),
        ("no column", ["no column 'body'", "['title', 'text']"]),
        ("own no text", [f"{GLUE}, train, row 0", "question1, question2, label, idx", "data.text"]),
        ("own no such text", [f"{GLUE}, train, row 0", "no column 'body'", "data.text"]),
        ("own no label", [f"{GLUE}, train, row 0", "no column 'class' in sentence, label, idx", "data.label"]),
        ("own no split", [GLUE, "dev", "data.val"]),
        ("own no configuration", ["sst3", "data.name"]),
        ("no text", ["no column 'views' of text", "['id', 'url', 'title', 'text']"]),
    ],
)
def test_what_cannot_be_had(found, check, parts):
    message = found[check]
    assert message.startswith("UserError: ") and "\n" not in message
    assert all(part in message for part in parts), message


@pytest.mark.full
def test_offline_with_a_full_cache(hub, folder, found):
    """The same in all, digests of what has been prepared among them; and not one request."""
    hub.requests.clear()
    again = json.loads(client(hub, folder, *EVERYTHING, "chunks", offline=True).splitlines()[-1])
    assert again == {check: found[check] for check in again}
    assert not hub.requests


@pytest.mark.full
def test_offline_with_an_empty_cache(hub, tmp_path):
    checks = ("wikipedia", "stream", "glue", "tokenizer", "model")
    for check, message in json.loads(client(hub, tmp_path, *checks, offline=True).splitlines()[-1]).items():
        assert "unset HF_HUB_OFFLINE" in message and "\n" not in message, (check, message)


@pytest.mark.full
def test_a_hub_that_fails_once(hub, tmp_path, found):
    """At every address."""
    hub.requests.clear()
    hub.hiccups = True
    try:
        again = json.loads(client(hub, tmp_path, "wikipedia", "stream", "tokenizer", "model").splitlines()[-1])
    finally:
        hub.hiccups = False
    assert again == {check: found[check] for check in again}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (ALBERT, "written to"),
        pytest.param("org/gated", LOG_IN, marks=pytest.mark.full),
        pytest.param("org/missing", "none of that", marks=pytest.mark.full),
    ],
)
def test_convert_says_where_it_looks(hub, tmp_path, name, said):
    """Once, whatever it fetches; and it takes a repository whose tokenizer is a SentencePiece model."""
    told = environment(hub, tmp_path / "home") | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "depthlab", "convert", name, str(tmp_path / name)]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=300)
    assert done.returncode == (0 if name == ALBERT else 2) and said in done.stdout + done.stderr, done.stderr
    assert done.stderr.count(f"{name} is no file or folder here; trying the Hugging Face hub") == 1
    if name == ALBERT:
        assert len(load_tokenizer(str(tmp_path / ALBERT))) == 120


FEW_STEPS = {"trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.enable_progress_bar": False}
FROM_THE_HUB = {name: value for name, value in PRETRAINING.items() if name != "data.tokenizer"} | FEW_STEPS
GLUE_RUN = FINE_TUNING | FEW_STEPS | {"data.task": "rte", "model.checkpoint": ALBERT, "trainer.val_check_interval": 1}
RUNS = {
    **{f"pretrain/{name}": FROM_THE_HUB for name in ("small", "base", "albert", "bert")},
    "pretrain/tiny": {name: value for name, value in FROM_THE_HUB.items() if name != "data.vocab_size"},
    "pretrain/nano": FROM_THE_HUB | {"data.corpus": f"[{{path: {WIKIPEDIA}, name: 20231101.en, streaming: true}}]"},
    "retrofit": RETROFIT | FEW_STEPS | {"model.checkpoint": "FOLDER/converted", "model.fixed_depth_steps": 1},
    "distil": RETROFIT | FEW_STEPS | {"model.checkpoint": "FOLDER/converted", "model.teacher": "FOLDER/bert"},
    "glue": GLUE_RUN,
    "own": FINE_TUNING
    | FEW_STEPS
    | {"model.checkpoint": ALBERT, "trainer.val_check_interval": 1, "data.hub": GLUE, "data.name": "qqp"}
    | {"data.train": "train", "data.val": "validation", "data.test": "test", "data.text": "[question1, question2]"},
    "pareto": GLUE_RUN,
    "comparison": GLUE_RUN,
    "halting": GLUE_RUN,
}
"""Settings of each experiment that takes something from the hub, for a run at toy size."""


def test_every_experiment_that_takes_from_the_hub_is_run():
    folder = REPOSITORY / "experiments"
    settings = {
        file.relative_to(folder).with_suffix("").as_posix(): read_settings(["--config", str(file)])
        for file in folder.rglob("*.yaml")
        if file.stem not in ("treebank", "similarity")  # nothing is fitted there
        and file.parent.name != "cluster"  # pretrain/base.yaml on other machines
    }
    taking = {name for name, setting in settings.items() if WIKIPEDIA in str(setting) or setting["task"] == "glue"}
    assert taking == set(RUNS) - {"own"}  # which takes from the hub where it is told to


@pytest.mark.parametrize(
    "names",
    [["pretrain/tiny", "retrofit", "own"], pytest.param(list(RUNS), marks=pytest.mark.full)],
    ids=["some", "all"],
)
def test_experiments_run_as_shipped(names, hub, tmp_path):
    """Corpora, tokenizer and checkpoint by their names on the hub; one process for all, since most of it is imports."""
    write_bert(tmp_path / "bert")
    commands = [["convert", str(tmp_path / "bert"), str(tmp_path / "converted"), "--mean_depth", "3"]]
    for name in names:
        settings = RUNS[name] | {"run_dir": tmp_path / name, "data.cache_dir": tmp_path / "cache"}
        values = (f"--{key}={value}".replace("FOLDER", str(tmp_path)) for key, value in settings.items())
        commands.append(["fit", "--config", str(REPOSITORY / f"experiments/{name}.yaml"), *values])
    if "own" in names:
        commands.append(["predict", "--config", str(tmp_path / "own/config.yaml")])
    client(hub, tmp_path, "depthlab", text="\n".join(map(json.dumps, commands)))
    for name in names:
        assert (tmp_path / name / "checkpoints/last.ckpt").is_file(), name
    if "pretrain/tiny" in names:  # no number is given: it is the tokenizer's
        assert json.loads((tmp_path / "pretrain/tiny/model/config.json").read_text())["vocab_size"] == 120
    if "own" in names:
        labels = json.loads((tmp_path / "own/model/config.json").read_text())["id2label"]
        assert labels == {"0": "0", "1": "1"}
        header, *lines = (tmp_path / "own/predictions/test.tsv").read_text().splitlines()
        assert header == "index\tprediction" and [line.split("\t")[0] for line in lines] == list("01234")
