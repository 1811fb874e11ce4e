import pytest
import torch

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertModel
from depthlab.models.checkpoint import DepthSettings
from depthlab.tasks import ClassificationTask
from tests.support import quiet_trainer, write_checkpoint


@pytest.mark.parametrize("halting", ["act", "every", "ponder", "random"])
@pytest.mark.parametrize("kind", ["classes", "numbers", "words"])
def test_the_loss_is_that_of_the_model(tmp_path, kind, halting):
    """Of Hugging Face's form, with the ponder cost in it; after every iteration where the rule learns there."""
    checkpoint, depth = str(write_checkpoint(tmp_path)), DepthSettings(halting=halting, time_penalty=0.1)
    labels, unit = () if kind == "numbers" else ("a", "b", "c"), "word" if kind == "words" else "text"
    task = ClassificationTask("made-up", labels, ["accuracy"], checkpoint, depth, unit=unit)
    batch = {"input_ids": torch.randint(5, 900, (3, 7)), "attention_mask": torch.ones(3, 7, dtype=torch.int64)}
    batch["attention_mask"][0, 4:] = 0
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    batch["labels"] = torch.tensor([2, 0, 1]) if labels else torch.tensor([0.5, 3.0, 5.0])
    if kind == "words":
        batch["labels"] = torch.full((3, 7), -100)
        batch["labels"][:, 1::2] = torch.randint(3, (3, 3))
        batch["labels"][0, 5] = -100
    outputs = task.model(**batch)
    means = {name: loss.means.mean() for name, loss in task.losses(batch, outputs).items()}
    torch.testing.assert_close(means["task"] + task.loss_weights["ponder"] * means["ponder"], outputs.loss)
    assert ("exit_logits" in outputs) == (halting in ("every", "ponder"))


def test_a_router_goes_on_or_begins_anew(tmp_path):
    checkpoint = str(write_checkpoint(tmp_path))
    route = {"halting": "route", "act_update": "accumulate"}
    model = AdaptiveAlbertModel.from_pretrained(checkpoint, **route)
    learnt = torch.nn.init.normal_(model.encoder.halting.score_weight).detach()
    model.save_pretrained(checkpoint)

    def router(**settings):
        return ClassificationTask("made-up", ("a", "b"), ["accuracy"], checkpoint, DepthSettings(**settings))

    other = {"halting": "capacity", "halting_settings": {"capacity": 0.4}}
    for settings in ({}, other):
        task = router(**settings)
        assert torch.equal(task.model.albert.encoder.halting.score_weight, learnt)
        task = router(**settings, new_unit=True)
        task.trainer = quiet_trainer(max_steps=1)
        for stage in ("validate", "test", "predict"):  # where nothing is trained, what is there is measured
            task.setup(stage)
            assert torch.equal(task.model.albert.encoder.halting.score_weight, learnt)
        task.setup("fit")
        anew = task.model.albert.encoder.halting
        assert not anew.score_weight.any() and not anew.score_bias.any() and anew.score_weight.requires_grad
    with pytest.raises(UserError, match="what decides in halting route has no bias"):
        router(halting_bias_init=1.0)
