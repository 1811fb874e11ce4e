"""A model runs over treebanks: how deep each piece of a word goes."""

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from depthlab.errors import UserError
from depthlab.models.checkpoint import load_as_saved
from depthlab.tasks.base import check_fit


class TreebankTask(LightningModule):
    """Any model of depthlab's, whatever it was trained for; there is nothing to train here.

    Args:
        checkpoint: a run of depthlab, a directory that `depthlab export` or `convert` wrote, or an ALBERT of Hugging
            Face's. Its tokenizer is used, too.
        losses: the model's loss on each piece when all of its word is masked, too, for the column `loss`. It takes a
            forward pass of the sentence for every word, and a model with the head for it.

    Raises:
        UserError: the checkpoint can't be loaded, or can't predict masked pieces.
    """

    monitor = None

    def __init__(self, checkpoint: str = "checkpoints/minilm-adaptive", losses: bool = False) -> None:
        super().__init__()
        self.checkpoint, self.losses = checkpoint, losses
        self.model = load_as_saved(checkpoint)
        if losses and not hasattr(self.model, "predictions"):
            raise UserError(
                f"model.losses needs a model that predicts masked pieces, and {checkpoint} is a "
                f"{type(self.model).__name__}: leave it out"
            )

    @property
    def cap(self) -> int:
        """L of the model."""
        return self.model.config.num_hidden_layers

    def setup(self, stage: str) -> None:
        """Hold the data against the model.

        Raises:
            UserError: vocabulary or length of the data do not fit the model.
        """
        data = self.trainer.datamodule
        check_fit(self.checkpoint, self.model.config, len(data.tokenizer), data.max_length)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns index, [B]: of which sentences; depths and remainders, [B, T]; losses, [B, T], where asked for."""
        output = self.model.base_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        found = {"index": batch["index"], "depths": output.depths, "remainders": output.remainders}
        return found | {"losses": self._masked_losses(batch)} if self.losses else found

    def _masked_losses(self, batch: dict[str, Tensor]) -> Tensor:
        """[B, T]: cross entropy, in nats, of each piece when its word is masked; nan where there is no word.

        A word of a sentence is a copy of the sentence; as many copies are computed at once as the batch has sentences.
        """
        ids, mask = batch["input_ids"], self.trainer.datamodule.tokenizer.mask_token_id
        words = self.trainer.datamodule.words(batch["index"])  # [B, T]
        losses = torch.full(ids.shape, torch.nan, device=ids.device)
        sentences = torch.arange(len(ids), device=ids.device)[:, None].expand_as(words)
        masked = torch.stack([sentences, words], dim=-1)[words >= 0].unique(dim=0)  # [copies, 2]
        for sentence, word in (chunk.unbind(dim=1) for chunk in masked.split(len(ids))):
            chosen = words[sentence] == word[:, None]  # [C, T]
            states = self.model.base_model(
                input_ids=ids[sentence].masked_fill(chosen, mask), attention_mask=batch["attention_mask"][sentence]
            ).last_hidden_state
            copies, positions = chosen.nonzero(as_tuple=True)
            rows = sentence[copies]
            logits = self.model.predictions(states[copies, positions])
            losses[rows, positions] = F.cross_entropy(logits.float(), ids[rows, positions], reduction="none")
        return losses
