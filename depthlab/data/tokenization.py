"""Load a tokenizer, or train ALBERT's kind (lower-cased Unigram) on the corpus; which pieces begin a word."""

import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from huggingface_hub import snapshot_download
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordLevel, WordPiece
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
SPECIALS = {"<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"}
"""ALBERT's special pieces."""
VOCABULARIES = ("tokenizer.json", "*.model", "vocab.txt", "vocab.json")
SETTINGS = ("tokenizer_config.json", "config.json")
"""Which class a tokenizer is of says the first; where it doesn't, the model's type in the second."""
HUB_FILES = [*VOCABULARIES, "merges.txt", "added_tokens.json", "special_tokens_map.json", *SETTINGS]
"""Files of a repository that a tokenizer may need."""
WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\ufffd]"
)
"""Letters of scripts that put no spaces between words: Thai and Lao, Burmese, Khmer, kana, Chinese characters;
and what is left of a letter where a piece is not all of its bytes."""


class TextEncoder:
    """Cuts texts into pieces; what spells a special token in a text, "[SEP]", is text.

    Args:
        tokenizer: the model's.
        max_length: most pieces of a text or a pair, special ones counted; the longer of two texts is cut first.
        masks: whether the mask token in a text is one nevertheless.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None, masks: bool = False) -> None:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        for token in content["added_tokens"]:
            token["special"] &= not (masks and token["content"] == tokenizer.mask_token)
        self._backend = Tokenizer.from_str(json.dumps(content))
        self._backend.encode_special_tokens = True
        self._backend.no_padding()
        self._backend.no_truncation()
        if max_length is not None:
            self._backend.enable_truncation(max_length, strategy="longest_first")
        self._unknown = tokenizer.unk_token_id
        self._special = {*special_ids(tokenizer)} - ({tokenizer.mask_token_id} if masks else set())

    def __call__(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Encoding]:
        """Texts or pairs of texts as `tokenizers` encodes them, special tokens included; for `ids`."""
        return self._backend.encode_batch(texts)

    def ids(self, encoding: Encoding) -> list[int]:
        """Of the pieces of a text or pair; a special piece that the text spells is unknown."""
        pairs = zip(encoding.ids, encoding.special_tokens_mask, strict=True)
        return [self._unknown if id_ in self._special and not special else id_ for id_, special in pairs]

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, without special tokens around them."""
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [[self._unknown if id_ in self._special else id_ for id_ in encoding.ids] for encoding in encodings]


def load_tokenizer(path: str, setting: str = "data.tokenizer") -> PreTrainedTokenizerBase:
    """A tokenizer, the very one that its files are.

    Args:
        path: A folder with a tokenizer's files, a SentencePiece `.model` file of ALBERT's kind, or, if nothing here has
            that name, a repository on the Hugging Face hub.
        setting: What names it.

    Raises:
        UserError: Nothing there, nothing readable, or no [CLS], [SEP], [MASK], padding or unknown token in it.
    """
    place = find_tokenizer_files(path, setting) or _download(path, setting)
    if not place.is_dir():
        tokenizer = _from_sentencepiece(place, {}, setting)
    else:
        has_json, models = (place / "tokenizer.json").exists(), sorted(place.glob("*.model"))
        settings = {name: _read_settings(place / name) for name in SETTINGS}
        kind = settings[SETTINGS[0]].get("tokenizer_class") or settings[SETTINGS[1]].get("model_type") or "albert"
        if models and not has_json and "albert" in str(kind).lower():
            tokenizer = _from_sentencepiece(models[0], settings[SETTINGS[0]], setting)
        else:
            tokenizer = _from_folder(place)
    pieces = tokenizer.get_vocab()
    for name in ("cls_token", "sep_token", "mask_token", "pad_token", "unk_token"):
        if getattr(tokenizer, name) not in pieces:  # asked for its id, one without an unknown piece would never end
            raise UserError(f"{place}: the tokenizer has no {name}, which the models here need")
    if sorted(pieces.values()) != [*range(len(tokenizer))]:
        raise UserError(f"{place}: the ids of the tokenizer's pieces do not run from 0, each once; fetch it again")
    try:
        tokenizer.backend_tokenizer.encode("of all characters, \U0010fffd is in no vocabulary")
    except Exception as error:  # of a model in Rust
        raise UserError(f"{place}: the tokenizer can't cut a text ({first_line(error)}); fetch it again") from error
    return tokenizer


def find_tokenizer_files(path: str, setting: str = "data.tokenizer") -> Path | None:
    """The file or folder that `load_tokenizer` takes; None for a repository on the Hugging Face hub.

    Raises:
        UserError: It is neither.
    """
    place = Path(path).expanduser()
    if os.path.exists(place):  # unlike the method, never a PermissionError
        return place
    if may_be_on_hub(path):
        return None
    raise UserError(f"{place}: no such file or folder; correct {setting}")


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
    return _from_model(model.getvalue(), {})


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


def special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids of the padding, unknown, [CLS], [SEP] and [MASK] tokens.

    Not `all_special_ids`: for some ALBERT vocabularies that holds parentheses and the full stop.
    """
    return [getattr(tokenizer, f"{name}_token_id") for name in ("pad", "unk", "cls", "sep", "mask")]


def word_start_table(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Which pieces begin a word: [V] bool.

    SentencePiece: those with the leading "▁", so punctuation belongs to the word it is attached to, and an unknown
    character to the word it stands in. Byte-level BPE: likewise, with "Ġ". WordPiece: those without "##". In scripts
    without spaces between words every piece is a word. Special tokens begin a word.
    """
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    specials = special_ids(tokenizer)
    if isinstance(tokenizer.backend_tokenizer.model, WordPiece | WordLevel):
        starts = [not piece.startswith("##") for piece in pieces]
    else:
        starts = [piece.startswith(("▁", "Ġ")) for piece in pieces]
        specials.remove(tokenizer.unk_token_id)
    if not any(piece.startswith("▁") for piece in pieces):  # byte-level pieces do not show their letters
        pieces = [tokenizer.convert_tokens_to_string([piece]) for piece in pieces]
    table = np.array(starts) | np.array([WITHOUT_SPACES.search(piece) is not None for piece in pieces])
    table[specials] = True
    return table


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: cannot be read ({first_line(error)}); mend it or fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: it holds no settings; mend it or fetch it again")
    return content


def _download(name: str, setting: str) -> Path:
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
            f"{setting}: {name!r} is neither a file or folder here nor a tokenizer that can be had from the "
            f"Hugging Face hub ({reason(error)}); correct it or give a folder"
        ) from error
    return folder


def _from_folder(folder: Path) -> PreTrainedTokenizerBase:
    """By Hugging Face's class, which makes up a tokenizer of its special tokens where it misses its files."""
    if not any(file for pattern in VOCABULARIES for file in folder.glob(pattern)):
        raise UserError(f"{folder}: it holds no tokenizer that can be loaded ({', '.join(VOCABULARIES)})")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # of the library's and of its parsers in Rust
        raise UserError(
            f"{folder}: no tokenizer can be loaded from it ({first_line(error)}); add its {SETTINGS[0]}, which says "
            "its class, or its tokenizer.json"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(
            f"{folder}: {type(tokenizer).__name__} does not tell which characters a piece covers: take one with a "
            "tokenizer.json"
        )
    if not (folder / "tokenizer.json").exists():
        names = {name for key, name in tokenizer.vocab_files_names.items() if key != "tokenizer_file"}
        if missing := sorted(name for name in names if not (folder / name).exists()):
            raise UserError(f"{folder}: {type(tokenizer).__name__} reads {', '.join(missing)}, which is not there")
    return tokenizer


def _from_sentencepiece(file: Path, settings: dict[str, Any], setting: str) -> PreTrainedTokenizerBase:
    if file.suffix != ".model":
        raise UserError(f"{file}: {setting} takes a folder or a SentencePiece .model file")
    try:
        return _from_model(file.read_bytes(), settings)
    except Exception as error:
        raise UserError(
            f"{file}: not a SentencePiece model of ALBERT's kind ({first_line(error)}); of another kind, give the "
            f"folder with its {SETTINGS[0]}"
        ) from error


def _from_model(serialized: bytes, settings: dict[str, Any]) -> PreTrainedTokenizerBase:
    """ALBERT's tokenizer with the pieces of a SentencePiece model.

    `AlbertTokenizer.from_pretrained` on a folder with `spiece.model` makes special tokens of the user-defined symbols,
    which segments "semi-final" unlike SentencePiece; `AlbertTokenizer(vocab_file=...)` ignores the file.
    """
    from sentencepiece import sentencepiece_model_pb2

    pieces = [(piece.piece, piece.score) for piece in sentencepiece_model_pb2.ModelProto.FromString(serialized).pieces]
    if missing := SPECIALS - {piece for piece, _ in pieces}:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    if pieces[1][0] != "<unk>":
        raise ValueError("<unk> is not its second piece")
    cased = {name: settings[name] for name in ("do_lower_case", "keep_accents") if name in settings}
    return AlbertTokenizer(vocab=pieces, **cased)
