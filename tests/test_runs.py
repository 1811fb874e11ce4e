"""Whole runs through the command line: golden curve, ranks and accumulation, interrupting and resuming, export."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForPreTraining, AutoTokenizer

import depthlab  # noqa: F401 (registers the model type)
from depthlab.cli import main
from tests.support import (
    PRETRAINING,
    REPOSITORY,
    compare_runs,
    error_of,
    interrupted,
    pretraining,
    printed_by,
    run,
    scalars,
    table,
    tags,
)

GOLDEN = Path(__file__).parent / "golden/pretraining.json"
COMPARED = (
    *("train/loss/total", "train/loss/mlm", "train/loss/sop", "train/loss/ponder", "train/accuracy/mlm"),
    *("train/accuracy/sop", "train/depth/all", "train/depth/mask_mask", "train/depth/plain", "train/depth/cls"),
    *("val/loss/mlm", "val/loss/sop", "val/loss/ponder", "val/depth/all", "val/depth/sep", "val/unigram_entropy"),
)


@pytest.fixture(scope="module")
def reference(corpus):
    """One process, one piece a step."""
    run_dir = corpus.parent / "reference"
    output = run(pretraining(run_dir, corpus))
    return run_dir, output


def assert_same(run_dir, reference):
    compare_runs(run_dir, reference, COMPARED, tolerance=1e-5, weights=1e-5)


def test_golden_curve(reference, request):
    """Loss and mean depth of every step; a change that means to change numerics rewrites the file: --update-golden."""
    actual = {tag: list(scalars(reference[0], tag).values()) for tag in ("train/loss/total", "train/depth/all")}
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(actual, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())
    assert golden.keys() == actual.keys()
    for tag, values in golden.items():
        assert actual[tag] == pytest.approx(values, rel=1e-3), tag


def test_prints_table_1_and_where_things_lie(reference):
    run_dir, output = reference
    rows = ("MLM accuracy", "SOP accuracy", "MASK/MASK", "MASK/random", "MASK/original", "[CLS]", "[SEP]", "unigram")
    assert all(row in output for row in rows)
    assert str(run_dir / "checkpoints/last.ckpt") in output and f"--logdir {run_dir}" in output
    results = json.loads((run_dir / "results.json").read_text())
    assert results["steps"] == 20 and results["tokens"] > 0
    assert results["tokens"] < results["token_iterations"] < 5 * results["tokens"]
    assert "The beginning of a held-out document" in output and "mean depth" in output.split("depth below:")[1]
    assert f"{run_dir / 'model'} (" in output and "parameters in float32, after 20 steps)" in output
    assert results["val/depth/all"] == pytest.approx(scalars(run_dir, "val/depth/all")[20], rel=1e-5)
    assert 0 < results["val/unigram_entropy"] < math.log(120)


def test_logs_what_the_dashboard_shows(reference):
    expected = {
        f"{stage}/{name}"
        for stage in ("train", "val")
        for name in (
            *("loss/total", "loss/mlm", "loss/sop", "loss/ponder", "accuracy/mlm", "accuracy/sop", "depth/all"),
            *("depth/unmasked", "depth/mask_replaced", "depth/plain", "depth/mask_mask", "depth/cls", "depth/sep"),
        )
    } | {"throughput/tokens_per_second", "throughput/token_iterations_per_second"}
    logged = set(tags(reference[0]))
    assert expected <= logged, expected - logged
    assert any(tag.startswith("lr-") for tag in logged)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="accumulated", marks=pytest.mark.full),
        pytest.param({"trainer__devices": 2, "trainer__strategy": "ddp"}, id="two ranks"),
    ],
)
def test_pieces_change_nothing(corpus, reference, tmp_path, changes):
    """Same batches, ragged and with a short last one; whatever is logged is of the global batch.

    Four sequences at a time, however many devices there are: two pieces a step on one, a single one on two.
    """
    in_process = not changes
    (main if in_process else run)(pretraining(tmp_path / "run", corpus, data__device_batch_size=4, **changes))
    assert_same(tmp_path / "run", reference[0])
    if not in_process:
        imbalance = scalars(tmp_path / "run", "throughput/imbalance").values()
        assert len(imbalance) == 20 and all(1 <= value < 2 for value in imbalance) and max(imbalance) > 1


def test_validate_takes_the_runs_own_checkpoint_and_configuration(reference, capsys):
    """From the `config.yaml` that the run has left: nothing else is needed."""
    run_dir, output = reference
    validate = ["validate", "--config", str(run_dir / "config.yaml")]
    printed, wanted = table(printed_by(validate)), table(output)
    assert (
        printed[-len(wanted) :] == wanted[-len(printed) :] and len(printed) > 10
    )  # the corpus may be described before
    shallow = table(printed_by([*validate, "--model.config.num_hidden_layers=1"]))
    assert any("mean depth, all tokens" in row and " 1.00 " in row for row in shallow)  # the weights fit any cap
    other = [*validate, "--model.config.intermediate_size=8"]
    assert "error: model.config.intermediate_size is 8" in error_of(capsys, other)


def test_other_checkpoints_stand_beside(reference, tmp_path, capsys):
    """The run's own model, exported, as another: the same documents, the same masks, so the same figures."""
    run_dir, _ = reference
    options = ["--config", str(run_dir / "config.yaml"), "--beside"]
    validate, exported = ["validate", *options], json.dumps([str(run_dir / "model")])
    for command in ("validate", "test"):
        header, _, *rows = table(printed_by([command, *options, exported]))
        assert [cell.strip() for cell in header.split("|")[2:4]] == ["this run", str(run_dir / "model")]
        columns = [[cell.strip() for cell in row.split("|")[2:4]] for row in rows]
        assert len(columns) > 10 and all(own == other != "-" for own, other in columns)
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp_fork"]
    assert "beside is for a single device" in error_of(capsys, [*validate, exported, *ranks])
    AutoModelForPreTraining.from_pretrained(run_dir / "model").base_model.save_pretrained(tmp_path / "headless")
    AutoTokenizer.from_pretrained(run_dir / "model").save_pretrained(tmp_path / "headless")
    error = error_of(capsys, [*validate, json.dumps([str(tmp_path / "headless")])])
    assert "has no head for masked words" in error and str(tmp_path / "headless") in error
    assert "does not exist" in error_of(capsys, [*validate, f'["{tmp_path / "nothing"}"]'])


def test_the_test_part_is_read_by_its_own_command_alone(reference):
    run_dir, output = reference
    assert "test/" not in (run_dir / "results.json").read_text()
    printed = table(printed_by(["test", "--config", str(run_dir / "config.yaml")]))
    assert "test documents" in printed[0]
    differing = [line for line in printed[2:] if line not in table(output)]
    assert any("MLM loss" in line for line in differing) and any("| documents " in line for line in differing)


def test_what_is_known_by_document_is_logged_and_kept(reference):
    """Of fewer documents than intervals take: means by kind, but no bounds."""
    results = json.loads((reference[0] / "results.json").read_text())
    counted = results["data"]["sources"][0]["development"]["documents"]
    assert results["val/documents/seen"] == counted < 10
    assert 1 <= results["val/documents/effective"] <= counted
    kinds = [results[f"val/accuracy/mlm_{kind}"] for kind in ("mask_mask", "mask_random", "mask_original")]
    assert min(kinds) <= results["val/accuracy/mlm"] <= max(kinds)
    assert not [tag for tag in results if "low" in tag]
    assert "val/accuracy/mlm_mask_mask" in tags(reference[0])


def test_validate_takes_a_model_without_a_run(corpus, reference, tmp_path, capsys):
    """What a run has exported measures as the run itself did."""
    run_dir, output = reference
    config = str(REPOSITORY / "experiments/retrofit.yaml")
    data = {name: value for name, value in PRETRAINING.items() if name.startswith("data.") and "tokenizer" not in name}
    values = data | {
        "run_dir": tmp_path / "none",
        "model.checkpoint": run_dir / "model",
        "model.fixed_depth_steps": 0,
        "data.corpus": corpus,
        "data.cache_dir": tmp_path / "cache",
        "data.mask_ratio": 0.2,
        "trainer.max_steps": 20,
        "ckpt_path": "model",
    }
    validate = ["validate", "--config", config, *(f"--{name}={value}" for name, value in values.items())]
    assert table(printed_by(validate))[-10:] == table(output)[-10:]
    assert not (tmp_path / "none").exists()
    scratch = ["validate", "--config", str(run_dir / "config.yaml"), "--ckpt_path=model"]
    assert "needs a model.checkpoint" in error_of(capsys, scratch)


@pytest.mark.full
def test_a_run_that_ends_by_its_epochs_is_saved_and_goes_on(corpus, tmp_path):
    ended = {"trainer__max_steps": -1, "trainer__max_epochs": 1, "trainer__log_every_n_steps": 5}
    run(pretraining(tmp_path / "run", corpus, **ended))
    steps = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert f"{steps} steps" in (tmp_path / "run/model/README.md").read_text()
    run([*pretraining(tmp_path / "run", corpus, **ended | {"trainer__max_epochs": 2}), "--ckpt_path=last"])
    assert f"{2 * steps} steps" in (tmp_path / "run/model/README.md").read_text()
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2 * steps


@pytest.mark.full
@pytest.mark.parametrize(("batches", "accumulate"), [(9, 1), (12, 2)])
def test_interrupted_run_goes_on_as_if_nothing_had_happened(corpus, reference, tmp_path, batches, accumulate):
    run_dir = tmp_path / "run"
    pieces = {"trainer__accumulate_grad_batches": accumulate}
    command = pretraining(run_dir, corpus, data__num_workers=1, **pieces)
    assert "--ckpt_path last" in interrupted(command, batches)
    assert not (run_dir / "model").exists()
    checkpoint = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == math.ceil(batches / accumulate)
    assert "MLM accuracy" in printed_by([*command, "--ckpt_path=last"])
    assert scalars(run_dir, "epoch") == scalars(reference[0], "epoch")
    assert_same(run_dir, reference[0])


@pytest.mark.full
def test_exported_run_loads_in_transformers(reference, tmp_path):
    run_dir, output = reference
    target = tmp_path / "exported"
    run(["export", f"--checkpoint={run_dir}/checkpoints/last.ckpt", f"--to={target}"])
    model, tokenizer = AutoModelForPreTraining.from_pretrained(target).eval(), AutoTokenizer.from_pretrained(target)
    weights = torch.load(run_dir / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, weights[f"model.{name}"]), name
    depths = model(**tokenizer("Bado kelu. Mi.", return_tensors="pt", return_token_type_ids=True)).depths
    assert depths.min() >= 1 and depths.max() <= 5
    card = (target / "README.md").read_text()
    accuracy = next(line for line in output.splitlines() if line.startswith("| MLM accuracy"))
    assert accuracy in card
    for file in target.iterdir():  # what the fit has exported by itself
        assert (run_dir / "model" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.full
def test_fixed_depth_first_leaves_the_halting_unit_alone(corpus, tmp_path):
    changes = {"model__fixed_depth_steps": 12, "model__time_penalty_warmup_steps": 4}
    changes |= {"model__config__halting_bias_init": 0}
    run(pretraining(tmp_path / "run", corpus, **changes))
    depth = scalars(tmp_path / "run", "train/depth/all")
    assert all(depth[step] == 5 for step in range(12)) and all(depth[step] < 5 for step in range(12, 20))
    held = {"model__fixed_depth_steps": 99, "model__fixed_depth": 2, "trainer__max_steps": 2}
    run(pretraining(tmp_path / "held", corpus, **held))
    for name in ("run", "held"):
        run(["export", f"--checkpoint={tmp_path}/{name}/checkpoints/last.ckpt", f"--to={tmp_path}/{name}/exported"])
        config = AutoConfig.from_pretrained(tmp_path / name / "exported")
        assert (config.halting, config.num_hidden_layers) == (("act", 5) if name == "run" else ("fixed", 2))


@pytest.mark.full
def test_two_ranks_and_accumulation_together(corpus, reference, tmp_path):
    changes = {"trainer__devices": 2, "trainer__strategy": "ddp", "data__device_batch_size": 2}
    run(pretraining(tmp_path / "run", corpus, **changes))
    assert_same(tmp_path / "run", reference[0])


@pytest.mark.full
def test_it_learns_on_the_sample_corpus(tmp_path):
    """`make pretrain`, shortened: MLM loss ends clearly below what a predictor blind to the context can reach."""
    config = str(REPOSITORY / "experiments/pretrain.yaml")
    run(["fit", "--config", config, f"--run_dir={tmp_path}/run", "--trainer.max_steps=1500"], seconds=1800)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["val/loss/mlm"] < results["val/unigram_entropy"] - 0.2
