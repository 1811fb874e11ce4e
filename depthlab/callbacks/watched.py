"""What callbacks need of a LightningModule, anybody's: somewhere in it, an adaptive ALBERT."""

from lightning.pytorch import Callback, LightningModule

from depthlab.errors import UserError
from depthlab.models.albert import AdaptiveAlbertModel


def adaptive_model(pl_module: LightningModule, callback: Callback) -> AdaptiveAlbertModel:
    """The first adaptive ALBERT of a module.

    Args:
        pl_module: whose model, or a part of it, is to be one.
        callback: who asks, for the error.

    Raises:
        UserError: there is none.
    """
    for module in pl_module.modules():
        if isinstance(module, AdaptiveAlbertModel):
            return module
    raise UserError(
        f"{type(callback).__name__} needs a model that iterates: take it out of trainer.callbacks for a "
        f"{type(getattr(pl_module, 'model', pl_module)).__name__}"
    )
