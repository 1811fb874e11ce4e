"""`depthlab plan`: of every experiment; its figures against those of a run that was then made."""

import gzip
import json
import math
import re

import pytest

from depthlab.cli import main
from depthlab.data.corpora.chunks import ChunkSettings
from depthlab.data.corpora.corpus import CorpusSource
from depthlab.data.corpora.parts import SplitSettings
from depthlab.data.corpora.preparation import Places, prepare, summarise
from depthlab.data.corpora.volume import look_at
from depthlab.data.tokenization import load_tokenizer
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from tests.support import REPOSITORY, UNIGRAM, error_of, fine_tuning, pretraining, write_inputs

EXPERIMENTS = sorted((REPOSITORY / "experiments").rglob("*.yaml"))
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def planned(capsys, *arguments: str, status: int = 0) -> dict[str, str]:
    """The lines of a plan by what they are of; of a sweep's sums with `sweep: ` before."""
    capsys.readouterr()
    try:
        main(["plan", *arguments])
        code = 0
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr().out
    assert code == status, printed
    found, title = {}, ""
    for line in printed.splitlines():
        if line.startswith("  "):
            what, _, said = line.strip().partition("  ")
            found[("sweep: " if title == "sweep" else "") + what] = said.strip()
        elif line:
            title = line
    return found


def number(said: str) -> float:
    return float(said.split()[0].replace(",", ""))


def size(said: str) -> float:
    value, unit = re.match(r"([\d.,e+]+) (\w+)", said).groups()
    return float(value.replace(",", "")) * UNITS[unit]


SIBLINGS = ("tiny", "small", "albert", "bert", "pareto", "halting")
"""Of others, which the default tests plan."""


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=f"{path.parent.name}-{path.stem}", marks=[pytest.mark.full] * (path.stem in SIBLINGS))
        for path in EXPERIMENTS
    ],
)
def test_every_experiment_can_be_planned(path, capsys, monkeypatch):
    """On a fresh clone: data and some checkpoints are not there, which is said; nothing else is asked for."""
    monkeypatch.chdir(REPOSITORY)
    axes = {"glue": ["--data.task=mrpc"], "probing": ["--data.task=tense", "--model.depth.halting=act"]}
    axes["pareto"] = ["--data.task=mrpc", "--model.depth.num_hidden_layers=3"]
    axes["halting"] = ["--data.task=mrpc", "--seed_everything=0"]
    cells = {"glue": "30", "pareto": "18", "halting": "14"}
    cells["comparison"] = "not all can be planned"  # it has a checkpoint to be made
    missing = path.stem in ("own", "probing", "treebank")  # their data must be named
    untrained = path.stem in ("treebank", "similarity")
    given = ["--flops=4e14", "--memory=80e9", "--devices=8"]
    found = planned(capsys, f"--config={path}", *given, *axes.get(path.stem, []), status=int(missing))
    assert found["settings"].startswith("all known")
    if path.stem in ("retrofit", "distil"):
        assert found["model"].startswith("not checked: checkpoints/converted")
    elif untrained:
        assert found["training"].startswith("none")
    elif not missing:
        assert number(found["parameters"]) > 1e5 and "80 GB" in found["memory of a device"]
        assert (number(found["hours"]) >= 0) if path.stem not in cells else found["steps"] == "not known"
    if path.stem in cells:
        assert found["sweep: cells"].startswith(cells[path.stem])


def test_the_papers_base_model(capsys, monkeypatch):
    """112,500 steps of 4,096 sequences; a token takes some six operations for each parameter that it meets."""
    monkeypatch.chdir(REPOSITORY)
    found = planned(capsys, "--config=experiments/cluster/base.yaml", "--flops=4e14", "--mean_depth=10")
    tokens = 112_500 * 4096 * 128
    assert number(found["tokens"]) == tokens and found["pieces of a step"].startswith("2 on each of 8")
    layer = 4 * 768**2 + 2 * 768 * 3072
    assert number(found["FLOPs in all"]) == pytest.approx(6 * 10 * layer * tokens, rel=0.1)
    assert number(found["hours"]) == pytest.approx(number(found["FLOPs in all"]) / 8 / 4e14 / 3600, abs=0.1)


SIZES = {"model__config__hidden_size": 64, "model__config__intermediate_size": 256, "model__config__embedding_size": 32}


def test_a_run_is_as_it_was_planned(corpus, capsys):
    command = pretraining(corpus.parent / "run", corpus, trainer__max_steps=12, checkpoint__every_n_steps=6, **SIZES)
    before = planned(capsys, *command[1:])
    assert before["samples an epoch"] == "not known" and "the cap" in before["mean depth"]
    assert before["run directory"] and "not known" in before["hours"]
    main(command)
    results = json.loads((corpus.parent / "run/results.json").read_text())
    depth = results["token_iterations"] / results["tokens"]

    after = planned(capsys, *command[1:], f"--like={corpus.parent}/run")
    assert after["samples an epoch"] == f"{results['data']['sources'][0]['training']['chunks']:,} (prepared)"
    assert number(after["tokens"]) == pytest.approx(results["tokens"], rel=0.1)
    assert number(after["mean depth"]) == pytest.approx(depth, rel=0.1) and "as fast as" in after["hours"]
    config = json.loads((corpus.parent / "run/model/config.json").read_text())
    model = AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig.from_dict(config))
    assert number(after["parameters"]) == sum(p.numel() for p in set(model.parameters()))
    files = [*(corpus.parent / "run").glob("checkpoints/*.ckpt"), corpus.parent / "run/model/model.safetensors"]
    assert size(after["run directory"]) == pytest.approx(sum(file.stat().st_size for file in files), rel=0.1)


def test_measured_on_this_machine(corpus, capsys):
    command = pretraining(corpus.parent / "measured", corpus)
    found = planned(capsys, *command[1:], "--measure")
    rate = re.search(r"at (\S+) FLOP/s", found["hours"])[1]
    assert number(found["hours"]) >= 0 and 1e4 < float(rate) < 1e15
    assert not (corpus.parent / "measured").exists()


@pytest.mark.full
def test_a_sweep_is_the_sum_of_its_cells(tmp_path, capsys):
    inputs = write_inputs(tmp_path)
    command = fine_tuning(inputs, tmp_path / "run")[1:]
    grid = "--sweep={data.batch_size: [4, 8], seed_everything: [0, 1, 2]}"
    command = [argument for argument in command if "batch_size" not in argument]
    found = planned(capsys, *command, "--data.device_batch_size=4", "--flops=1e9", grid)
    cells = [planned(capsys, *command, "--sweep=null", "--flops=1e9", f"--data.batch_size={b}") for b in (4, 8)]
    assert number(found["sweep: cells"]) == 6
    for name in ("steps", "FLOPs in all"):
        assert number(found[f"sweep: {name}"]) == pytest.approx(3 * sum(number(cell[name]) for cell in cells), rel=0.01)
    examples = number(cells[0]["samples an epoch"])
    assert number(cells[0]["steps"]) == 2 * math.ceil(examples / 4)
    assert found["pieces of a step"].startswith("8 on each of 1")  # of the YAML's 32


def test_time_is_a_budget(corpus, capsys):
    command = pretraining(corpus.parent / "timed", corpus, trainer__max_steps=-1, trainer__max_time="00:01:00:00")
    found = planned(capsys, *command[1:], "--flops=1e9")
    assert number(found["hours"]) == 1
    assert number(found["steps"]) == pytest.approx(3600 * 1e9 / number(found["FLOPs a step"]), rel=0.01)
    assert planned(capsys, *command[1:])["steps"] == "not known"


WRONG = {
    "data": ("--data.corpus=no/such/folder", "no/such/folder"),
    "batch": ("--devices=3", "cannot be cut"),
    "model": ("--model.config.max_position_embeddings=16", "over model.config.max_position_embeddings"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said(corpus, capsys, what):
    option, expected = WRONG[what]
    command = pretraining(corpus.parent / "wrong", corpus, data__tokenizer=UNIGRAM, data__vocab_size=8000)
    found = planned(capsys, *command[1:], option, status=1)
    assert found[what].startswith("WRONG") and expected in found[what]


def test_too_little_memory(corpus, capsys):
    command = pretraining(corpus.parent / "wrong", corpus)
    assert "DOES NOT FIT" in planned(capsys, *command[1:], "--memory=1e5")["memory of a device"]
    assert "fits" in planned(capsys, *command[1:], "--memory=1e9")["memory of a device"]


def test_an_option_or_a_setting_that_is_none(corpus, capsys):
    assert "--flops" in error_of(capsys, ["plan", "--config=x", "--flops=many"])
    assert "batch_sice" in error_of(capsys, ["plan", *pretraining(corpus.parent, corpus)[1:], "--data.batch_sice=4"])
    assert "--like" in error_of(capsys, ["plan", *pretraining(corpus.parent, corpus)[1:], "--like=nowhere"])


@pytest.mark.parametrize("form", ["corpus.txt", "corpus.jsonl", "corpus.jsonl.gz"])
def test_a_corpus_is_told_by_its_first_documents(corpus, tmp_path, monkeypatch, form):
    """Against what preparing gives, where a third of it is looked at."""
    documents = [document for copy in range(6) for document in _variants(corpus.read_text().split("\n\n"), copy)]
    folder = tmp_path / "texts"
    folder.mkdir()
    if form.endswith(".txt"):
        (folder / form).write_text("\n\n".join(documents))
    else:
        lines = "\n".join(json.dumps({"id": number, "text": text}) for number, text in enumerate(documents)).encode()
        (folder / form).write_bytes(gzip.compress(lines) if form.endswith(".gz") else lines)
    monkeypatch.setattr("depthlab.data.corpora.volume.CHARACTERS_LOOKED_AT", sum(map(len, documents)) // 3)
    source, settings = CorpusSource(str(folder)), ChunkSettings(64, 0.1)
    tokenizer = load_tokenizer(str(UNIGRAM))
    split = SplitSettings(0.2, 0.1, 0)
    places = Places([source], str(UNIGRAM), len(tokenizer), settings, split, tmp_path / "cache")
    expected = summarise(prepare(places, 1))
    told = look_at(source, tokenizer, settings)
    for name in ("tokens", "sentences", "chunks"):
        assert told[name] == pytest.approx(expected[name], rel=0.1), name


def _variants(documents: list[str], copy: int) -> list[str]:
    return [document.replace(".", f" {copy}.") for document in documents]
