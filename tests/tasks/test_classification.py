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
    labels = torch.tensor([2, 0, 1]) if labels else torch.tensor([0.5, 3.0, 5.0])
    outputs = task.model(**batch, labels=labels)
    mean = task._task_losses(outputs.logits, labels).mean() + task.time_penalty * outputs.ponder_cost.mean()
    torch.testing.assert_close(mean, outputs.loss)
