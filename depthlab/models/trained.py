"""What decides in a model that is read, and not trained, must have been trained, and by its rule."""

from depthlab.errors import UserError
from depthlab.models.albert import AdaptiveAlbertPreTrainedModel

READABLE = "by its own rule or one that learns nothing (change, entropy, margin, patience, every, random, fixed)"
"""How a model is to be read whose halting unit knows nothing of the rule that is asked for."""


def check_unit(checkpoint: str, model: AdaptiveAlbertPreTrainedModel) -> None:
    """See to it that what decides in a model that is read, and not trained, has been trained, and by its rule.

    Raises:
        UserError: it has not.
    """
    if new := [name for name in model.new_weights if "encoder.halting." in name]:
        raise UserError(f"{checkpoint} has no {new[0]}: read it {READABLE}")
    check_rule(checkpoint, model.trained_as.halting, model.config.halting)


def check_rule(what: str, trained: str, rule: str) -> None:
    """Hold the rule that weights were trained by against the one that they are read by.

    Raises:
        UserError: there are weights of the same names, and they mean something else.
    """
    if {trained, rule} == {"act", "ponder"}:
        raise UserError(
            f"{what} was trained by {trained}, whose halting probabilities are not those of {rule}: read it {READABLE}"
        )
