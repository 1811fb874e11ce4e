import pytest
import torch

from depthlab.models.checkpoint import DepthSettings
from depthlab.tasks import ClassificationTask
from tests.support import write_checkpoint


@pytest.mark.parametrize("halting", ["act", "every", "ponder", "random"])
@pytest.mark.parametrize("labels", [("a", "b", "c"), ()], ids=["classes", "regression"])
def test_the_loss_is_that_of_the_model(tmp_path, labels, halting):
    """Of Hugging Face's form, with the ponder cost in it; after every iteration where the rule learns there."""
    checkpoint, depth = str(write_checkpoint(tmp_path)), DepthSettings(halting=halting, time_penalty=0.1)
    task = ClassificationTask("made-up", labels, ["accuracy"], checkpoint, depth)
    batch = {"input_ids": torch.randint(5, 900, (3, 7)), "attention_mask": torch.ones(3, 7, dtype=torch.int64)}
    batch["attention_mask"][0, 4:] = 0
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    batch["labels"] = torch.tensor([2, 0, 1]) if labels else torch.tensor([0.5, 3.0, 5.0])
    outputs = task.model(**batch)
    means = {name: loss.means.mean() for name, loss in task.losses(batch, outputs).items()}
    torch.testing.assert_close(means["task"] + task.loss_weights["ponder"] * means["ponder"], outputs.loss)
    assert ("exit_logits" in outputs) == (halting in ("every", "ponder"))
