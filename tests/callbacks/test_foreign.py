"""Monitors and dashboard in somebody else's Lightning project: their module, their loaders, an encoder of ours."""

import pytest
import torch
from lightning.pytorch import LightningModule
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from depthlab.callbacks import Dashboard, FixedPointMonitor, PonderMonitor, ThroughputMonitor
from depthlab.errors import UserError
from depthlab.kinds import TokenKind
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForMaskedLM
from tests.models.conftest import SIZES
from tests.support import quiet_trainer, scalars, tags


class Theirs(LightningModule):
    """A masked language model that knows nothing of depthlab's tasks."""

    def __init__(self):
        super().__init__()
        config = AdaptiveAlbertConfig(**SIZES, num_hidden_layers=4, initializer_range=0.5, halting_bias_init=-1.0)
        self.network = AdaptiveAlbertForMaskedLM(config)

    def training_step(self, batch, batch_idx):
        loss = self.network(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
        self.log("train/loss/total", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.network(batch["input_ids"], batch["attention_mask"])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def examples():
    ids = torch.randint(5, SIZES["vocab_size"], (8, 9))
    mask = (torch.arange(9) < torch.randint(3, 10, (8, 1))).long()
    kinds = torch.where(mask > 0, TokenKind.PLAIN, TokenKind.PAD)
    kinds[:, 0], kinds[:, 1] = TokenKind.CLS, TokenKind.MASK_MASK
    columns = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(kinds != 1, -100), "kinds": kinds}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    torch.manual_seed(0)
    folder, module, data = tmp_path_factory.mktemp("log"), Theirs(), examples()
    callbacks = [PonderMonitor(), FixedPointMonitor(), ThroughputMonitor()]
    logger = Dashboard(folder, name="", version="")
    trainer = quiet_trainer(max_epochs=2, log_every_n_steps=1, logger=logger, callbacks=callbacks)
    trainer.fit(module, DataLoader(data, batch_size=4), DataLoader(data, batch_size=8))
    return folder, module, data


def test_depths_are_those_of_the_model(watched):
    folder, module, data = watched
    ids, mask, kinds = (torch.stack([row[name] for row in data]) for name in ("input_ids", "attention_mask", "kinds"))
    with torch.no_grad():
        depths = module.network.eval()(ids, mask).depths.double()
    for name, chosen in {"all": mask > 0, "cls": kinds == TokenKind.CLS, "plain": kinds == TokenKind.PLAIN}.items():
        assert scalars(folder, f"val/depth/{name}")[3] == pytest.approx(depths[chosen].mean().item(), rel=1e-6)
    assert sorted(scalars(folder, "train/depth/mask_mask")) == [0, 1, 2, 3]
    assert (folder / "fixed_point.csv").exists() and "fixed_point/mask_mask/4" in tags(folder)
    assert not module.network.albert.encoder._forward_hooks, "who watched has left"


def test_the_dashboard_has_a_run_a_kind_and_its_picture(watched):
    """TensorBoard colours by run: one tag, written by a run for each kind."""
    folder, _, _ = watched
    assert {run.name for run in (folder / "depth").iterdir()} == {"all", "plain", "mask_mask", "cls"}
    for stage in ("train", "val"):
        line = scalars(folder / "depth/mask_mask", f"at_a_glance/depth_{stage}")
        assert line == scalars(folder, f"{stage}/depth/mask_mask")
    assert scalars(folder / "loss/train", "at_a_glance/loss") == scalars(folder, "train/loss/total")
    own = EventAccumulator(str(folder)).Reload().Tags()
    assert "depth_by_kind" in own["images"]
    assert not [tag for tag in own["scalars"] if tag.startswith("at_a_glance")]


def test_a_module_without_depths_is_refused():
    class Linear(LightningModule):
        model = torch.nn.Linear(1, 1)

    for monitor in (PonderMonitor(), FixedPointMonitor()):
        with pytest.raises(UserError, match=r"trainer\.callbacks for a Linear"):
            monitor.setup(None, Linear(), "fit")
