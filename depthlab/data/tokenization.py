"""Load a tokenizer, or train ALBERT's kind (lower-cased Unigram) on the corpus; which pieces begin a word."""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import sentencepiece
from huggingface_hub import snapshot_download
from transformers import AlbertTokenizer, AutoTokenizer, PreTrainedTokenizerBase

from depthlab.data.hub import announce, may_be_on_hub
from depthlab.errors import UserError
from depthlab.hub_errors import first_line, reason, retried

# Documents are tokenized by many processes at once; threads inside each would only fight over the cores, and the
# library warns at every fork after it has used its threads.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ALBERT_SYMBOLS = ["(", ")", '"', "-", ".", "–", "£", "€"]  # noqa: RUF001
"""Pieces that ALBERT's vocabulary always keeps apart from their neighbours."""
TRAINING_CHARACTERS = 10_000_000
"""Bound on the text that a vocabulary is trained on; half a minute on two cores."""
HUB_FILES = [
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model", "vocab.txt", "config.json"),
]
"""Files of a repository that a tokenizer may need; config.json tells its class where tokenizer_config.json does not."""


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """A tokenizer of ours or of ALBERT's kind.

    Args:
        path: A Hugging Face tokenizer's folder, a SentencePiece `.model` file, a folder with such a file, or, if
            nothing here has that name, a repository on the Hugging Face hub.

    Raises:
        UserError: Nothing there, nothing readable, or no [CLS], [SEP], [MASK], padding or unknown token in it.
    """
    place = find_tokenizer_files(path) or _download(path)
    models = sorted(place.glob("*.model")) if place.is_dir() else [place]
    if place.is_dir() and (os.path.exists(place / "tokenizer.json") or not models):
        try:
            tokenizer = AutoTokenizer.from_pretrained(place)
        except (ValueError, OSError, KeyError) as error:
            raise UserError(f"{place}: no tokenizer can be loaded from this folder ({first_line(error)})") from error
    else:
        tokenizer = _from_sentencepiece(models[0])
    for name in ("cls_token", "sep_token", "mask_token", "pad_token", "unk_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise UserError(f"{place}: the tokenizer has no {name}, which pre-training needs")
    return tokenizer


def find_tokenizer_files(path: str) -> Path | None:
    """The file or folder that `load_tokenizer` takes; None for a repository on the Hugging Face hub.

    Raises:
        UserError: It is neither.
    """
    place = Path(path).expanduser()
    if os.path.exists(place):  # unlike the method, never a PermissionError
        return place
    if may_be_on_hub(path):
        return None
    raise UserError(f"{place}: no such file or folder; correct data.tokenizer")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a lower-cased Unigram vocabulary as ALBERT's: ids 0-4 are <pad>, <unk>, [CLS], [SEP], [MASK].

    The SentencePiece trainer with a fixed number of threads gives the same vocabulary every time; the trainer of
    `tokenizers` does not.

    Args:
        texts: Lines of text, of about `TRAINING_CHARACTERS` in all.
        vocab_size: Pieces, special ones counted.

    Raises:
        UserError: The text is too small for that many pieces, or has more characters than pieces.
    """
    normalizer = AlbertTokenizer().backend_tokenizer.normalizer
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(normalizer.normalize_str(text) for text in texts),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            pad_id=0,
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            pad_piece="<pad>",
            control_symbols=["[CLS]", "[SEP]", "[MASK]"],
            user_defined_symbols=ALBERT_SYMBOLS,
            normalization_rule_name="identity",  # the tokenizer's own normalizer has done it
            max_sentence_length=1_000_000,
            num_threads=4,  # the sums of the EM steps depend on it: a constant, whatever the machine
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(_training_failure(str(error), vocab_size)) from error
    return _from_model(model.getvalue())


def _training_failure(message: str, vocab_size: int) -> str:
    if largest := re.search(r"<= (\d+)", message):
        return (
            f"data.vocab_size: the corpus is too small for {vocab_size:,} pieces; the largest vocabulary "
            f"it allows is {int(largest[1]):,}"
        )
    if smallest := re.search(r"smaller than required_chars\. (\d+) vs (\d+)", message):
        return (
            f"data.vocab_size: {vocab_size:,} pieces cannot hold the corpus' characters; take more than {smallest[2]}"
        )
    return f"data.vocab_size: cannot train {vocab_size:,} pieces on this corpus ({message.splitlines()[0]})"


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Raise UserError unless the tokenizer has exactly `vocab_size` pieces."""
    if len(tokenizer) != vocab_size:
        raise UserError(
            f"data.vocab_size is {vocab_size}, but the tokenizer has {len(tokenizer)} pieces; make the two equal"
        )


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the padding, unknown, [CLS], [SEP] and [MASK] tokens.

    Not `all_special_ids`: for some ALBERT vocabularies that holds parentheses and the full stop.
    """
    return [getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")]


def word_start_table(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Which pieces begin a word: [V] bool.

    SentencePiece: those with the leading "▁", so punctuation belongs to the word it is attached to, and an unknown
    character to the word it stands in. WordPiece: those without "##". Special tokens begin a word.
    """
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    if any(piece.startswith("▁") for piece in pieces):
        starts = np.array([piece.startswith("▁") for piece in pieces])
        specials = [index for index in special_ids(tokenizer) if index != tokenizer.unk_token_id]
    else:
        starts = np.array([not piece.startswith("##") for piece in pieces])
        specials = special_ids(tokenizer)
    starts[specials] = True
    return starts


def _download(name: str) -> Path:
    """A repository's tokenizer files, in Hugging Face's own cache, to be loaded like any folder.

    Not by `AutoTokenizer.from_pretrained(name)`: see `_from_model` for what that makes of a SentencePiece model.
    """
    announce(name)
    try:
        folder = Path(retried(lambda: snapshot_download(name, allow_patterns=HUB_FILES)))
        if not folder.is_dir():
            raise FileNotFoundError("it has no tokenizer files")
    except Exception as error:  # the library raises anything from ConnectionError to ValueError here
        raise UserError(
            f"data.tokenizer: {name!r} is neither a file or folder here nor a tokenizer that can be had from the "
            f"Hugging Face hub ({reason(error)}); correct it or give a folder"
        ) from error
    return folder


def _from_sentencepiece(file: Path) -> PreTrainedTokenizerBase:
    if file.suffix != ".model":
        raise UserError(f"{file}: data.tokenizer takes a folder or a SentencePiece .model file")
    try:
        return _from_model(file.read_bytes())
    except Exception as error:
        raise UserError(f"{file}: not a SentencePiece model of ALBERT's kind ({error})") from error


def _from_model(serialized: bytes) -> PreTrainedTokenizerBase:
    """ALBERT's tokenizer with the pieces of a SentencePiece model.

    `AlbertTokenizer.from_pretrained` on a folder with `spiece.model` makes special tokens of the user-defined symbols,
    which segments "semi-final" unlike SentencePiece; `AlbertTokenizer(vocab_file=...)` ignores the file.
    """
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(serialized)
    return AlbertTokenizer(vocab=[(piece.piece, piece.score) for piece in model.pieces])
