"""A step whose numbers are bad: the run stops there, or goes on without it; what is looked through afterwards."""

import json
import math

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision

from depthlab.callbacks import FiniteSteps
from depthlab.cli import main
from depthlab.commands.replay import BadStepState
from depthlab.errors import BadNumbers
from depthlab.models import AdaptiveAlbertConfig
from depthlab.models.checkpoint import DepthSettings
from depthlab.run.directory import RunDirectory
from depthlab.tasks import PretrainingTask
from tests.models.conftest import SIZES
from tests.support import BadNumbersAt, error_of, pretraining, printed_by, quiet_trainer, results, run, tags
from tests.tasks.test_any_loader import LABELS, batches


class WeightsBefore(BadNumbersAt):
    """Keeps the weights from before the step, too, and what steers the price of depth."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.steps[0]:
            self.before = {name: weight.clone() for name, weight in pl_module.state_dict().items()}
            self.steers = pl_module.depth_target.state.clone()
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)


def fit(tmp_path, spoils, on_bad_step="stop", **settings):
    """Three epochs of two batches; the task, and the callback."""
    torch.manual_seed(0)
    data = batches(**LABELS)
    finite = FiniteSteps(RunDirectory(tmp_path), on_bad_step)
    trainer = quiet_trainer(max_epochs=3, callbacks=[spoils, finite], log_every_n_steps=1, **settings)
    task = PretrainingTask(AdaptiveAlbertConfig(**SIZES, time_penalty=1e-3), warmup_steps=0)
    task.learn_depth(DepthSettings(target=2.0))
    trainer.fit(task, data, data)
    return task, finite


SAID = {"loss": "the loss is nan", "gradient": "gradients are not finite in model.albert.embeddings.word_embeddings"}


@pytest.mark.parametrize("where", SAID)
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_bad_loss_or_gradient_stops_the_run_before_the_step_is_taken(tmp_path, where, pieces):
    spoils = WeightsBefore(3, where=where)
    with pytest.raises(BadNumbers) as stopped:
        fit(tmp_path, spoils, accumulate_grad_batches=pieces)
    message = str(stopped.value)
    samples = {1: "samples 0, 1, 2, 3;", 2: "samples 0, 1, 2, 3, 4, 5, 6, 7;"}[pieces]
    for part in (
        f"step 3: {SAID[where]}",
        "learning rate 0.00",
        samples,
        "depths ",
        f"depthlab replay {tmp_path}",
    ):
        assert part in message, message
    kept = torch.load(tmp_path / "bad_step/0.pt", weights_only=True)
    assert len(kept["pieces"]) == pieces and kept["step"] == 3 and message.startswith(kept["message"])
    for name, weight in spoils.before.items():
        assert torch.equal(kept["weights"][name], weight), name
    assert torch.equal(kept["depth_target"], spoils.steers)
    task = PretrainingTask(AdaptiveAlbertConfig(**SIZES, time_penalty=1e-3), warmup_steps=0)
    task.learn_depth(DepthSettings(target=2.0))
    BadStepState(RunDirectory(tmp_path), [kept]).on_fit_start(quiet_trainer(), task)
    assert torch.equal(task.depth_target.state, spoils.steers)


def test_a_bad_weight_stops_the_run_after_the_step(tmp_path):
    said = (
        "step 2: weights are not finite in model.albert.embeddings.word_embeddings.weight after the optimiser's update"
    )
    for on_bad_step in ("stop", "skip"):  # it can't be undone
        with pytest.raises(BadNumbers, match=said):
            fit(tmp_path, BadNumbersAt(2, where="weight"), on_bad_step)
    assert torch.load(tmp_path / "bad_step/0.pt", weights_only=True)["weights"] is None


def test_what_training_begins_with_is_looked_at(tmp_path):
    task = PretrainingTask(AdaptiveAlbertConfig(**SIZES), warmup_steps=0)
    task.model.albert.pooler.bias.data[0] = math.nan
    data = batches(**LABELS)
    with pytest.raises(BadNumbers, match=r"before step 1: weights are not finite in model\.albert\.pooler\.bias"):
        quiet_trainer(max_steps=1, callbacks=[FiniteSteps(RunDirectory(tmp_path))]).fit(task, data, data)


def test_a_bad_step_is_skipped_and_counted(tmp_path):
    spoils = WeightsBefore(3, where="gradient")
    seen = []
    spoils.on_train_batch_end = lambda trainer, module, *rest: seen.append(
        all(torch.equal(module.state_dict()[name], weight) for name, weight in spoils.before.items())
        if trainer.global_step == 3
        else None
    )
    task, finite = fit(tmp_path, spoils, "skip")
    assert seen == [None, None, True, None, None, None] and task.trainer.global_step == 6
    assert finite.results() == {"skipped_steps": 1} and task.trainer.callback_metrics["train/skipped_steps"] == 1
    assert all(weight.isfinite().all() for weight in task.parameters())
    again = FiniteSteps(RunDirectory(tmp_path), "skip")
    again.load_state_dict(finite.state_dict())
    assert again.results() == finite.results()


class Huge(BadNumbersAt):
    """Gradients whose squares overflow, and which are finite."""

    def on_after_backward(self, trainer, pl_module) -> None:
        next(pl_module.parameters()).grad[2, 1] = 1e30


def test_large_is_not_infinite(tmp_path):
    task, _ = fit(tmp_path, Huge(1, where="nothing"))
    assert task.trainer.global_step == 6


def test_bad_steps_in_a_row_stop_the_run_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("depthlab.callbacks.finite.IN_A_ROW", 3)
    with pytest.raises(BadNumbers, match="step 5: the loss is nan"):
        fit(tmp_path, BadNumbersAt(3, steps=9), "skip")


@pytest.mark.parametrize(("scale", "is_bad"), [(2.0**16, False), (1.0, True)])
def test_gradients_that_overflow_are_the_loss_scales_business_while_it_can_sink(tmp_path, scale, is_bad):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    settings = {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
    spoils = BadNumbersAt(2, where="gradient")
    if is_bad:
        with pytest.raises(BadNumbers, match="step 2: gradients are not finite"):
            fit(tmp_path, spoils, **settings)
    else:
        task, _ = fit(tmp_path, spoils, **settings)
        assert task.trainer.global_step == 6


def spoilt(corpus, run_dir, step, where, **changes):
    """Arguments of a fit that saves every other step, and is spoilt in one."""
    spoils = ["--trainer.callbacks+=tests.support.BadNumbersAt", f"--trainer.callbacks.step={step}"]
    spoils += [f"--trainer.callbacks.where={where}"]
    return [*pretraining(run_dir, corpus, checkpoint__every_n_steps=2, **changes), *spoils]


def stopped(command, capsys):
    """What a run prints that must end with status 1, and its one line of an error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 1
    printed = capsys.readouterr()
    (line,) = (line for line in printed.err.splitlines() if "depthlab: error" in line)
    return printed.out, line


FOUND = {
    "loss": "albert.encoder.albert_layer_groups.0.albert_layers.0.activation, in its call 1 of the forward pass",
    "gradient": "gradients of model.albert.embeddings.word_embeddings.weight; losses",
    "weight": "the optimiser's update of model.albert.embeddings.word_embeddings.weight; losses and gradients",
}


@pytest.mark.parametrize("where", ["loss", *(pytest.param(w, marks=pytest.mark.full) for w in ("gradient", "weight"))])
def test_a_run_is_left_as_it_was_after_its_last_good_step_and_the_bad_one_runs_again(corpus, tmp_path, capsys, where):
    run_dir = tmp_path / "run"
    printed, message = stopped(spoilt(corpus, run_dir, 6, where), capsys)
    assert "step 4 of 20 (20%), about" in printed and "validation: loss" in printed  # where there is no terminal
    last = run_dir / "checkpoints/last.ckpt"
    assert "step 6: " in message and f"the last good checkpoint is {last}" in message
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 4 and all(weight.isfinite().all() for weight in saved["state_dict"].values())
    assert not (run_dir / "model").exists() and not (run_dir / "results.json").exists()

    seen = printed_by(["status", str(run_dir)])
    assert f"{run_dir}  failed: step 6: " in seen and f"depthlab replay {run_dir}" in seen and "step 5 of 20" in seen

    there = {file: file.read_bytes() for file in run_dir.rglob("*") if file.is_file()}
    printed = printed_by(["replay", str(run_dir), "--accelerator=cpu"])
    first = next(line for line in printed.splitlines() if line.startswith("first  "))
    assert first.startswith(f"first  {FOUND[where]}")
    origin = f"after step 4, of {last}" if where == "weight" else "before step 6"
    assert f"now    from the weights {origin}\n" in printed
    assert {file: file.read_bytes() for file in run_dir.rglob("*") if file.is_file()} == there


def test_what_can_not_be_replayed(tmp_path, capsys):
    assert f"{tmp_path} holds no run" in error_of(capsys, ["replay", str(tmp_path)])
    (tmp_path / "config.yaml").touch()
    assert "has no step whose numbers went bad" in error_of(capsys, ["replay", str(tmp_path)])


@pytest.mark.full
def test_a_run_that_skips_says_how_often(corpus, tmp_path):
    main([*spoilt(corpus, tmp_path / "run", 6, "loss"), "--on_bad_step=skip"])
    assert results(tmp_path / "run")["skipped_steps"] == 1 and "train/skipped_steps" in tags(tmp_path / "run")


@pytest.mark.full
def test_ranks_stop_together(corpus, tmp_path):
    """The second rank's loss is bad; the first says so, and nobody waits for anybody."""
    two = {"trainer__devices": 2, "trainer__strategy": "ddp"}
    printed = run([*spoilt(corpus, tmp_path / "run", 6, "loss", **two), "--trainer.callbacks.rank=1"], exit_code=1)
    (message,) = (line for line in printed.splitlines() if "depthlab: error" in line)
    assert "step 6: the loss is nan" in message and "rank 1" in message
    assert json.loads((tmp_path / "run/progress.json").read_text())["state"] == "failed"
    assert {file.name for file in (tmp_path / "run/bad_step").iterdir()} == {"0.pt", "1.pt"}
    # What spoils the second rank spares a replay, which has one.
    assert "first  nothing: all numbers are finite" in printed_by(
        ["replay", str(tmp_path / "run"), "--accelerator=cpu"]
    )
