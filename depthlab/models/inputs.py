"""What a model can read: pieces of its own vocabulary, and so many tokens."""

from transformers import PreTrainedConfig, PreTrainedModel

from depthlab.errors import UserError

PADDED_VOCABULARY = 128
"""Embeddings that a model may have beyond its tokenizer's pieces: their number is often rounded up."""


def check_vocabulary(checkpoint: str, config: PreTrainedConfig, pieces: int) -> None:
    """Hold a tokenizer of so many pieces against the model of a checkpoint.

    Raises:
        UserError: the tokenizer is not the model's own.
    """
    if not pieces <= config.vocab_size < pieces + PADDED_VOCABULARY:
        raise UserError(
            f"{checkpoint} has embeddings for {config.vocab_size} pieces, but its tokenizer has {pieces}: it must be "
            "the model's own"
        )


def most_tokens(model: PreTrainedModel) -> int | None:
    """The longest input that a model has positions for; None where it has no such bound.

    RoBERTa and its kin count positions from the one after their padding's.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    tables = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padding = next((getattr(table, "padding_idx", None) for table in tables), None)
    return positions if None in (positions, padding) else positions - padding - 1
