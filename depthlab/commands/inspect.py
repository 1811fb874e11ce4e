"""The command `depthlab inspect`: texts in the terminal and as a page, every piece coloured by its depth."""

import os
import sys
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from depthlab.analysis.inspection import Inspector
from depthlab.data.hub import may_be_on_hub
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.files import check_own, writing
from depthlab.models.checkpoint import check_vocabulary, find_tokenizer, load_as_saved
from depthlab.render.document import Document
from depthlab.render.html import to_html
from depthlab.render.sentences import sentence
from depthlab.render.terminal import print_inspection

DEFAULT_CHECKPOINT = "checkpoints/minilm-adaptive"
MARK = "depthlab inspect"
"""In every page of ours: only such a file may be replaced."""


def inspect(
    texts: list[str] | None = None,
    checkpoint: str = DEFAULT_CHECKPOINT,
    file: str | None = None,
    html: str | None = None,
) -> None:
    """Show how deep a model goes for each piece of a text, and what it predicts.

    Each piece is coloured by its depth, with the number below; pieces of one word are joined. Below stand the likeliest
    tokens for every [MASK], and the class that a fine-tuned model gives.

    Args:
        texts: Texts; without any, the lines of --file or of what is piped in. A tab parts the two texts of a pair.
        checkpoint: A run, a directory that `depthlab export` or `convert` wrote, or an ALBERT of Hugging Face's.
        file: A file with a text a line, UTF-8.
        html: A page to write as well, with the halting probabilities of every iteration on hover.

    Raises:
        UserError: there is no text, no model or no tokenizer, or the page can't be written.
    """
    texts = [text for text in _read(texts, file) if text.strip()]
    if not texts:
        raise UserError('nothing to inspect: give a text ("The crows circled above me."), a --file, or pipe one in')
    target = None if html is None else Path(html)
    if target is not None:
        check_own("--html", target, f'content="{MARK}"'.encode(), "page of `depthlab inspect`")
    if not Path(checkpoint).exists() and (checkpoint == DEFAULT_CHECKPOINT or not may_be_on_hub(checkpoint)):
        raise UserError(f"--checkpoint {checkpoint} does not exist")
    logging.disable_progress_bar()
    model = load_as_saved(checkpoint)
    inspector = Inspector(model, tokenizer_of(checkpoint, model.config))
    inspections = [inspector(text) for text in texts]

    introduction = f"{checkpoint}: {_depths(model.config)}."
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(introduction, "\n", sep="", soft_wrap=True)
    for inspection in inspections:
        print_inspection(console, inspection)
        console.print()
    if target is not None:
        cap = inspector.model.config.num_hidden_layers
        legend = f"Depths stand below, {cap} in the strongest colour; point at a piece for its halting probabilities."
        blocks = [f"{introduction} {legend}", *(sentence(inspection) for inspection in inspections)]
        with writing("--html", target) as unfinished:
            unfinished.write_text(to_html(Document("Depth by piece", blocks), MARK), encoding="utf-8")
        console.print(f"page  {target}", soft_wrap=True)


def _read(texts: list[str] | None, file: str | None) -> list[str]:
    """The texts, of one source."""
    if texts and file is not None:
        raise UserError("give texts or a --file, not both")
    try:
        if texts:
            return [os.fsencode(text).decode() for text in texts]
        if file is not None:
            return Path(file).read_text(encoding="utf-8").splitlines()
        return [] if sys.stdin.isatty() else sys.stdin.buffer.read().decode().splitlines()
    except OSError as error:
        raise UserError(f"cannot read --file {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        source = "the text" if texts else "what is piped in" if file is None else f"--file {file}"
        raise UserError(f"{source} is not UTF-8 text (byte {error.start})") from None


def tokenizer_of(checkpoint: str, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """A checkpoint's own.

    Raises:
        UserError: it has none, or that of another model.
    """
    place = find_tokenizer(checkpoint)
    if Path(checkpoint).exists() and not Path(place).exists():
        raise UserError(f"{checkpoint} has no tokenizer: {place} does not exist")
    tokenizer = load_tokenizer(place)
    check_vocabulary(checkpoint, config, len(tokenizer))
    return tokenizer


def _depths(config: PreTrainedConfig) -> str:
    cap = config.num_hidden_layers
    return f"a piece iterates {cap} times at most" if config.rule.adaptive else f"every piece iterates {cap} times"
