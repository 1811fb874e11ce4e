import pytest
import torch

from depthlab.tasks import ClassificationTask
from tests.support import write_checkpoint


@pytest.mark.parametrize("labels", [("a", "b", "c"), ()], ids=["classes", "regression"])
def test_the_loss_is_that_of_the_model(tmp_path, labels):
    """Of Hugging Face's form, with the ponder cost in it."""
    task = ClassificationTask("made-up", labels, ["accuracy"], str(write_checkpoint(tmp_path)))
    batch = {"input_ids": torch.randint(5, 900, (3, 7)), "attention_mask": torch.ones(3, 7, dtype=torch.int64)}
    batch["attention_mask"][0, 4:] = 0
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    batch["labels"] = torch.tensor([2, 0, 1]) if labels else torch.tensor([0.5, 3.0, 5.0])
    outputs = task.model(**batch)
    means = {name: loss.means.mean() for name, loss in task.losses(batch, outputs).items()}
    torch.testing.assert_close(means["task"] + task.loss_weights["ponder"] * means["ponder"], outputs.loss)
