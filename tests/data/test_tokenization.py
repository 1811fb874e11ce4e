import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertTokenizerFast

from depthlab.data.tokenization import check_vocabulary, load_tokenizer, special_ids, train_tokenizer, word_start_table
from depthlab.errors import UserError
from tests.support import SHARED


@pytest.fixture(scope="module")
def lines(chapters) -> list[str]:
    return [line for chapter in chapters for line in chapter.split("\n")]


@pytest.fixture(scope="module")
def trained(lines):
    return train_tokenizer(lines, 600)


def test_trained_tokenizer_is_alberts_kind(trained):
    assert len(trained) == 600
    assert trained.convert_ids_to_tokens(range(5)) == ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    assert special_ids(trained) == [0, 1, 2, 3, 4]
    text = "In the Beginning, Gód (and the semi-earth) said."
    assert trained.tokenize(text) == trained.tokenize(text.lower().replace("ó", "o"))
    decoded = trained.decode(trained(text).input_ids, skip_special_tokens=True)
    assert decoded.replace(" ", "") == "inthebeginning,god(andthesemi-earth)said."


def test_training_is_deterministic(trained, lines):
    assert train_tokenizer(lines, 600).backend_tokenizer.to_str() == trained.backend_tokenizer.to_str()


def test_saved_tokenizer_loads_the_same(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.get_vocab() == trained.get_vocab()
    text = "And God said, Let there be light: semi-naïve (light)."
    assert loaded(text).input_ids == trained(text).input_ids


def test_corpus_too_small_for_the_vocabulary(lines):
    with pytest.raises(UserError, match=r"30,000 pieces; the largest vocabulary it allows is [\d,]+$") as caught:
        train_tokenizer(lines, 30_000)
    largest = int(re.search(r"([\d,]+)$", str(caught.value))[1].replace(",", ""))
    assert len(train_tokenizer(lines, largest)) == largest


def test_vocabulary_too_small_for_the_characters(lines):
    with pytest.raises(UserError, match=r"data\.vocab_size: 20 pieces cannot hold"):
        train_tokenizer(lines, 20)


def test_vocabulary_size_is_checked(trained):
    check_vocabulary(trained, 600)
    with pytest.raises(UserError, match=r"700.* 600 "):
        check_vocabulary(trained, 700)


def test_word_starts_of_unigram(trained):
    table = word_start_table(trained)
    assert table.dtype == bool
    assert table.shape == (600,)
    words = ["in", "the", "beginning,", "god", "created", "naive", "日", "things."]
    ids = trained(" ".join(words), add_special_tokens=False).input_ids
    starts = np.flatnonzero(table[ids])
    assert len(starts) == len(words)
    pieces = [trained.decode(part.tolist()).replace(" ", "") for part in np.split(np.array(ids), starts[1:])]
    assert pieces[:6] == words[:6]


def wordpiece(folder: Path) -> Path:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "earth", "##ly", "light", "##s", ","]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    BertTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    return folder


def test_word_starts_of_wordpiece(tmp_path):
    tokenizer = load_tokenizer(str(wordpiece(tmp_path)))
    ids = tokenizer("The earthly lights, xyz", add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["the", "earth", "##ly", "light", "##s", ",", "[UNK]"]
    assert word_start_table(tokenizer)[ids].tolist() == [True, True, False, True, False, True, True]


def test_bad_places(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        load_tokenizer(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="no tokenizer can be loaded"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "x.model").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"x\.model.*not a SentencePiece model"):
        load_tokenizer(str(tmp_path / "x.model"))
    (tmp_path / "vocab.txt").write_text("the\n")
    with pytest.raises(UserError, match=r"vocab\.txt"):
        load_tokenizer(str(tmp_path / "vocab.txt"))


@pytest.mark.parametrize("path", ["a/b/c", "./nowhere", "~/nowhere", "/nowhere", "albert/spiece.model", "vocab.txt"])
def test_mistyped_path_is_an_error_at_once(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        load_tokenizer(path)


def test_what_is_here_goes_before_the_hub(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained.save_pretrained(tmp_path / "albert/albert-base-v2")
    assert load_tokenizer("albert/albert-base-v2").get_vocab() == trained.get_vocab()


@pytest.mark.full
def test_alberts_own_vocabulary():
    """All 30,000 pieces, and the segmentation of SentencePiece itself."""
    import gzip
    import json

    import sentencepiece

    file = SHARED / "albert-spm/30k-clean.model"
    tokenizer = load_tokenizer(str(file))
    reference = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert tokenizer.convert_ids_to_tokens(range(30_000)) == [reference.id_to_piece(i) for i in range(30_000)]
    assert len(tokenizer) == 30_000
    normalize = tokenizer.backend_tokenizer.normalizer.normalize_str
    with gzip.open(SHARED / "wikipedia/articles-1.jsonl.gz", "rt") as articles:
        for _, article in zip(range(40), articles, strict=False):
            for line in json.loads(article)["text"].split("\n"):
                assert tokenizer(line, add_special_tokens=False).input_ids == reference.encode(normalize(line))
