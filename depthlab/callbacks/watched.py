"""What callbacks need of a LightningModule, anybody's: somewhere in it, an adaptive ALBERT."""

from lightning.pytorch import Callback, LightningModule

from depthlab.errors import UserError
from depthlab.models.albert import AdaptiveAlbertModel


def adaptive_model(pl_module: LightningModule, callback: Callback) -> AdaptiveAlbertModel:
    """The first adaptive ALBERT of a module.

    Raises:
        UserError: there is none; it names the callback that asks.
    """
    for module in pl_module.modules():
        if isinstance(module, AdaptiveAlbertModel):
            return module
    raise UserError(
        f"{type(callback).__name__} needs a model that iterates: take it out of trainer.callbacks for a "
        f"{type(getattr(pl_module, 'model', pl_module)).__name__}"
    )
