"""A model runs over treebanks: how deep each piece of a word goes."""

from lightning.pytorch import LightningModule
from torch import Tensor

from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.models.checkpoint import DepthSettings, find_tokenizer, load_as_saved
from depthlab.models.scoring import masked_word_losses
from depthlab.tasks.base import check_data


class TreebankTask(LightningModule):
    """Any model of depthlab's, whatever it was trained for; there is nothing to train here.

    Args:
        checkpoint: a run of depthlab, a directory that `depthlab export` or `convert` wrote, or an ALBERT of Hugging
            Face's. Its tokenizer is used, too.
        depth: what of the checkpoint's depth is to differ.
        losses: the model's loss on each piece when all of its word is masked, too, for the column `loss`. It takes a
            forward pass of the sentence for every word, and a model with the head for it.

    Raises:
        UserError: the checkpoint can't be loaded, or can't predict masked pieces.
    """

    monitor = None

    def __init__(
        self,
        checkpoint: str = "checkpoints/minilm-adaptive-mlm",
        depth: DepthSettings | None = None,
        losses: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.model = load_as_saved(checkpoint, {} if depth is None else depth.given())
        if losses and not hasattr(self.model, "predictions"):
            raise UserError(
                f"model.losses needs a model that predicts masked pieces, and {checkpoint} is a "
                f"{type(self.model).__name__}: leave it out"
            )
        self.mask_id = load_tokenizer(find_tokenizer(checkpoint)).mask_token_id if losses else None

    @property
    def cap(self) -> int:
        return self.model.config.num_hidden_layers

    def check_data(self, pieces: int, max_length: int) -> None:
        check_data(self.checkpoint, self.model, pieces, max_length)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns index, [B]: of which sentences; depths, remainders, what is real, [B, T]; losses, where asked for."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        head = getattr(self.model, "read", None)  # there are rules that ask it
        output = self.model.base_model(input_ids=ids, attention_mask=mask, head=head)
        found = {"index": batch["index"], "depths": output.depths, "remainders": output.remainders, "real": mask.bool()}
        if self.mask_id is not None:
            found["losses"] = masked_word_losses(self.model, ids, mask, batch["words"], self.mask_id)
        return found
