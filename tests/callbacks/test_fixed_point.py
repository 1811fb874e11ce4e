"""The fixed point in a run: what TensorBoard has of it, against the metric over the exported model."""

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from depthlab.cli import main
from depthlab.kinds import TokenKind
from depthlab.models import AdaptiveAlbertModel
from depthlab.render.fixed_point import READINGS, fixed_point_figure
from depthlab.tasks import PretrainingTask
from depthlab.tasks.pretraining import MODEL_INPUTS
from tests.metrics.test_fixed_point import observe
from tests.support import pretraining, scalars, tags


def test_a_run_logs_the_fixed_point(corpus, tmp_path, monkeypatch):
    """It is on in the paper's experiments; one of which this run is, at a fraction of its size."""
    batches, encoders = [], []
    step = PretrainingTask.validation_step

    def recorded(self, batch, batch_idx):
        batches.append(batch)
        encoders.append(self.model.albert.encoder)
        assert encoders[-1]._forward_pre_hooks
        return step(self, batch, batch_idx)

    monkeypatch.setattr(PretrainingTask, "validation_step", recorded)
    run_dir = tmp_path / "run"
    main(pretraining(run_dir, corpus, trainer__max_steps=3, trainer__val_check_interval=9))
    assert encoders and not encoders[-1]._forward_pre_hooks

    model = AdaptiveAlbertModel.from_pretrained(run_dir / "model", execution="dense").eval()
    inputs = [({name: batch[name] for name in MODEL_INPUTS}, batch["kinds"]) for batch in batches]
    metric = observe(model, inputs).compute()
    expected = {}
    for reading in ("fixed_point", "fixed_point_running"):
        for kind, n in (~metric[reading].isnan()).nonzero().tolist():
            name = f"{reading}/{TokenKind(kind).name.lower()}/{n + 1}"
            expected[name] = metric[reading][kind, n].item()
    table = pd.read_csv(run_dir / "fixed_point.csv").set_index(["kind", "n"])
    readings = table[["fixed_point", "fixed_point_running"]].stack().dropna()
    found = {f"{reading}/{kind}/{n}": value for (kind, n, reading), value in readings.items()}
    assert {*table["step"]} == {3} and len(expected) > 30
    assert found == pytest.approx(expected, abs=1e-5)
    assert table.loc[("cls", 1), "fixed_point_tokens"] == sum(len(batch["labels"]) for batch in batches)
    logged = [tag for tag in tags(run_dir) if tag.startswith("fixed_point")]
    assert len(logged) == 20 and {"fixed_point/mask_mask/1", "fixed_point/sep/5"} <= {*logged}
    for tag in logged:
        assert scalars(run_dir, tag) == {3: pytest.approx(expected[tag], abs=1e-5)}
    assert set(READINGS) <= set(EventAccumulator(str(run_dir)).Reload().Tags()["images"])


def test_the_figure_has_a_line_for_each_kind_there_is():
    tokens = torch.zeros(len(TokenKind), 3, dtype=torch.int64)
    tokens[TokenKind.CLS], tokens[TokenKind.PLAIN] = torch.tensor([4, 4, 1]), torch.tensor([1234, 7, 0])
    similarity = torch.full(tokens.shape, torch.nan)
    similarity[TokenKind.CLS], similarity[TokenKind.PLAIN, :2] = torch.tensor([0.5, 0.7, 0.9]), torch.tensor([0.2, 0.3])
    (axes,) = fixed_point_figure("fixed_point_layer", similarity, tokens).axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["plain (1,234 tokens)", "cls (4 tokens)"]
    lines = [line.get_ydata() for line in axes.lines if len(line.get_ydata())]
    assert lines[1].tolist() == similarity[TokenKind.CLS].tolist() and len(lines) == 2
    assert "iteration" in axes.get_xlabel() and "cosine similarity" in axes.get_ylabel()
