"""What decides in a model that is read, and not trained, must have been trained, and by its rule."""

from depthlab.errors import UserError
from depthlab.models.albert import AdaptiveAlbertPreTrainedModel

READABLE = "by its own rule or one that learns nothing (change, entropy, margin, patience, fixed)"
"""How a model is to be read whose halting unit knows nothing of the rule that is asked for."""


def check_unit(checkpoint: str, model: AdaptiveAlbertPreTrainedModel) -> None:
    """See to it that what decides in a model that is read, and not trained, has been trained, and by its rule.

    Raises:
        UserError: it has not.
    """
    if new := [name for name in model.new_weights if "encoder.halting." in name]:
        raise UserError(f"{checkpoint} has no {new[0]}: read it {READABLE}")
    by, rule = model.trained_as.halting, model.config.halting
    if {by, rule} == {"act", "ponder"}:  # their weights have the same names
        raise UserError(
            f"{checkpoint} was trained by {by}, whose halting probabilities are not those of {rule}: read it {READABLE}"
        )
