"""The command `depthlab inspect`: texts in the terminal and as a page, every piece coloured by its depth."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from depthlab.analysis.inspection import Inspector
from depthlab.data.hub import may_be_on_hub
from depthlab.data.lines import lines_of, read_lines
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError
from depthlab.files import check_own, replacing, writing
from depthlab.models.checkpoint import SHIPPED, DepthSettings, find_tokenizer, load_as_saved, place_of
from depthlab.models.inputs import check_vocabulary
from depthlab.render.document import Document
from depthlab.render.html import to_html
from depthlab.render.sentences import sentence
from depthlab.render.terminal import print_inspection

MARK = "depthlab inspect"
"""In every page of ours: only such a file may be replaced."""


@dataclass(kw_only=True)
class ModelSettings:
    """What of a checkpoint's model is to differ.

    Args:
        depth: how deep it goes.
    """

    depth: DepthSettings | None = None


def inspect(
    texts: list[str] | None = None,
    checkpoint: str = "checkpoints/minilm-adaptive-mlm",
    file: str | None = None,
    html: str | None = None,
    to: str | None = None,
    model: ModelSettings | None = None,
) -> None:
    """Show how deep a model goes for each piece of a text, and what it predicts.

    Each piece is coloured by its depth, with the number below; pieces of one word are joined. Below stand the likeliest
    tokens for every [MASK], and the class that a fine-tuned model gives.

    Args:
        texts: Texts; without any, the lines of --file or of what is piped in. A tab parts the two texts of a pair.
            [MASK] is a masked token; what else spells a special token is text.
        checkpoint: A run, a directory that `depthlab export` or `convert` wrote, or an ALBERT of Hugging Face's.
        file: A file with a text a line, UTF-8.
        html: A page to write as well, with the halting probabilities of every iteration on hover.
        to: A table to write in place of what is shown, with a row for each piece: .csv, .jsonl or .parquet.
        model: How deep the model is to go where it differs from the checkpoint, as in other commands.

    Raises:
        UserError: there is no text, no model or no tokenizer, or the page or the table can't be written.
    """
    numbered = {number: text for number, text in enumerate(_read(texts, file)) if text.strip()}
    if not numbered:
        raise UserError('nothing to inspect: give a text ("The crows circled above me."), a --file, or pipe one in')
    target = None if html is None else Path(html)
    if target is not None:
        check_own("--html", target, f'content="{MARK}"'.encode(), "page of `depthlab inspect`")
    if not Path(place_of(checkpoint)).exists() and (checkpoint in SHIPPED or not may_be_on_hub(checkpoint)):
        raise UserError(f"--checkpoint {checkpoint} does not exist")
    if to is not None:
        from depthlab.analysis.depth_table import check_table, write_depths  # here: a bare installation has no pandas

        check_table(Path(to))
        if html is not None:
            raise UserError("give --html or --to, not both: the one is to look at, the other to count with")
    logging.disable_progress_bar()
    settings = {} if model is None or model.depth is None else model.depth.given()
    loaded = load_as_saved(checkpoint, settings)
    inspector = Inspector(loaded, tokenizer_of(checkpoint, loaded.config))
    introduction = f"{checkpoint}: {_depths(loaded.config)}."
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(introduction, "\n", sep="", soft_wrap=True)
    if to is not None:
        replaced = replacing(Path(to))
        pieces, depth = write_depths(((number, inspector(text)) for number, text in numbered.items()), Path(to))
        counts = f"mean depth {depth:.2f} over {pieces:,} pieces of {len(numbered):,} texts"
        console.print(f"{counts}\ntable  {to}{replaced}", soft_wrap=True)
        return
    inspections = [inspector(text) for text in numbered.values()]
    for inspection in inspections:
        print_inspection(console, inspection)
        console.print()
    if target is not None:
        cap = inspector.model.config.num_hidden_layers
        legend = f"Depths stand below, {cap} in the strongest colour; point at a piece for its halting probabilities."
        blocks = [f"{introduction} {legend}", *(sentence(inspection) for inspection in inspections)]
        replaced = replacing(target)
        with writing("--html", target) as unfinished:
            unfinished.write_text(to_html(Document("Depth by piece", blocks), MARK), encoding="utf-8")
        console.print(f"page  {target}{replaced}", soft_wrap=True)


def _read(texts: list[str] | None, file: str | None) -> list[str]:
    """The texts, of one source."""
    if texts and file is not None:
        raise UserError("give texts or a --file, not both")
    try:
        if texts:
            return [os.fsencode(text).decode() for text in texts]
    except UnicodeDecodeError as error:
        raise UserError(f"the text is not UTF-8 (byte {error.start})") from None
    if file is not None:
        lines = read_lines(Path(file), "--file")
    else:
        lines = iter(()) if sys.stdin.isatty() else lines_of(sys.stdin.buffer, "what is piped in")
    return [line.removesuffix("\n") for _, line in lines]


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
