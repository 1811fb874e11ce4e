"""The number of pieces of a vocabulary, where a tokenizer is given: it is the tokenizer's."""

from jsonargparse import Namespace

from depthlab.data.tokenization import load_tokenizer


def follow_tokenizer(options: Namespace) -> None:
    """Set `data.vocab_size` by `data.tokenizer`, and with it a `model.config.vocab_size` that was the same.

    Raises:
        UserError: the tokenizer can't be loaded.
    """
    data, config = options.data, options.model.get("config")
    if config is None or data.get("tokenizer") is None:  # a checkpoint has its vocabulary
        return
    was, data.vocab_size = data.vocab_size, len(load_tokenizer(data.tokenizer))
    if config.vocab_size == was:
        config.vocab_size = data.vocab_size
