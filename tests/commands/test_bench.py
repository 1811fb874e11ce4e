"""`depthlab bench`: what it counts is what the model does; what it times is not tested here."""

import json
import sys
from importlib.util import find_spec

import pytest
import torch
from transformers import AlbertModel, AutoTokenizer, BertModel

from depthlab.analysis.speed import PeakMemory, same_size
from depthlab.cli import main
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertModel, AdaptiveBertConfig, AdaptiveBertModel
from tests.models.conftest import SIZES
from tests.support import error_of, printed_by, table, write_checkpoint

TEXTS = ["The crows circled above.", "A lake.", "She never crosses the old green river, and he sold paints on it."]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("bench") / "checkpoint")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("bench") / "texts.txt"
    file.write_text("\n\n".join(TEXTS) + "\nnot read\n")
    return file


def test_counts_are_the_models(checkpoint, data, tmp_path):
    page = tmp_path / "speed.html"
    options = ["--data", str(data), "--sentences=3", "--rounds=1", "--batch_sizes=[1,2]", f"--html={page}"]
    printed = printed_by(["bench", str(checkpoint), *options, '--dtypes=["float32"]'])
    found = json.loads(printed.splitlines()[-1])
    assert found["sentences"] == 3 and found["matmul_flops"]["float32"] > 0
    rows = {(row["engine"], row["batch"]): row for row in found["rows"]}
    assert len(rows) == len(table(printed)) - 2 == (10 if find_spec("onnxruntime") else 8)

    model, tokenizer = AdaptiveAlbertModel.from_pretrained(checkpoint).eval(), AutoTokenizer.from_pretrained(checkpoint)
    for size in (1, 2):
        tokens = total = dense = 0
        for part in (TEXTS[first : first + size] for first in range(0, 3, size)):
            depths = model(**tokenizer(part, padding=True, return_tensors="pt", return_token_type_ids=True)).depths
            tokens += int((depths > 0).sum())
            total += int(depths.sum())
            dense += int((depths > 0).sum() * depths.max())
        assert total < dense
        iterations = {"compact": total, "dense": dense, "fixed": 4 * tokens, "transformers": 4 * tokens}
        if find_spec("onnxruntime"):
            iterations["onnxruntime"] = total
        for engine, expected in iterations.items():
            row = rows[engine, size]
            assert row["token_iterations"] / row["tokens"] == pytest.approx(expected / tokens, rel=1e-3)
            depth = 4 if engine in ("fixed", "transformers") else total / tokens
            assert row["depth"] == pytest.approx(depth, rel=1e-3)
            assert row["tokens"] / row["sentences"] == pytest.approx(tokens / 3, rel=1e-3)
            assert 0 < row["p50"] <= row["p95"] and row["share"] > 0
            assert row["memory"] is None if engine == "onnxruntime" else row["memory"] > 0
        flops = {engine: rows[engine, size]["share"] / rows[engine, size]["tokens"] for engine in iterations}
        assert flops["compact"] < flops["fixed"] == pytest.approx(flops["transformers"], rel=1e-3)
    assert "<svg" in page.read_text() and "sentences per second" in page.read_text()


def test_memory_is_that_of_tensors_that_are_there_at_once():
    weight = torch.ones(1000)
    with PeakMemory() as memory:
        first = weight * 2  # 4,000 bytes
        weight.view(10, 100).add_(1)  # no new memory
        del first
        second = weight + 1
        third = torch.cat([second, second])
        del second, third
    assert memory.peak == 12_000


@pytest.mark.parametrize("tied", [True, False])
def test_the_model_beside_it_does_as_much(tied):
    """Of the same parameters but what decides on halting, in number and shapes."""
    sizes = SIZES | {"num_hidden_layers": 3} | ({} if tied else {"embedding_size": SIZES["hidden_size"]})
    model_class, config_class = (
        (AdaptiveAlbertModel, AdaptiveAlbertConfig) if tied else (AdaptiveBertModel, AdaptiveBertConfig)
    )
    ours = model_class(config_class(**sizes, halting="fixed"), add_pooling_layer=False)
    theirs = same_size(ours.config)
    assert isinstance(theirs, AlbertModel if tied else BertModel)
    matrices = sorted(tuple(p.shape) for name, p in ours.named_parameters() if "mapping_in" not in name or tied)
    assert sorted(tuple(parameter.shape) for parameter in theirs.parameters()) == matrices
    assert same_size(AdaptiveAlbertConfig(**SIZES, relaxation_rank=2)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds=0"], "--rounds must be at least 1, got 0"),
        (["--batch_sizes=[1, -2]"], "--batch_sizes must be at least 1, got 1, -2"),
        (["--data=nothing.txt"], "nothing.txt: cannot be read"),
        (["--data=empty.txt"], "--data empty.txt has no sentence in it"),
        (["--device=abacus"], "--device abacus: "),
        (["--device=meta"], "--device meta: "),
        (["--engines=[steam]"], "steam"),
        (["--engines=dense"], "engines is dense; it must be a list: '[dense]' (see"),
        (["--engines=[dense]", "--dtypes=[int8]"], "no engine of --engines runs this model in --dtypes"),
    ],
)
def test_mistakes(checkpoint, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    assert message in error_of(capsys, ["bench", str(checkpoint), *options])


def test_it_replaces_no_other_file(checkpoint, data, tmp_path, capsys):
    (tmp_path / "mine.html").write_text("mine")
    error = error_of(capsys, ["bench", str(checkpoint), f"--data={data}", f"--html={tmp_path}/mine.html"])
    assert "mine.html" in error and (tmp_path / "mine.html").read_text() == "mine"


def test_what_is_left_out_is_said(data, tmp_path, capsys):
    """A relaxed model, which nobody else has; and onnxruntime, where it is not installed."""
    relaxed = write_checkpoint(tmp_path / "relaxed", relaxation_rank=2)
    options = ["--sentences=1", "--rounds=1", "--batch_sizes=[1]", "--dtypes=[float32]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        main(["bench", str(relaxed), f"--data={data}", *options])
    printed = capsys.readouterr()
    assert "measuring float32: compact, dense, fixed\n" in printed.out
    assert "transformers is left out: " in printed.err and "onnxruntime is left out" in printed.err


@pytest.mark.full
def test_the_sample_corpus_will_do(checkpoint, capsys):
    main(["bench", str(checkpoint), "--sentences=2", "--rounds=1", "--batch_sizes=[2]", '--engines=["compact"]'])
    assert "2 sentences of the sample corpus" in capsys.readouterr().out
