import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertTokenizerFast

from depthlab.data.corpora.masking import MaskingRule, make_sample
from depthlab.data.tokenization import TextEncoder, load_tokenizer, special_ids, train_tokenizer, word_start_table
from depthlab.errors import UserError
from depthlab.kinds import NOT_PREDICTED
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
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "x.model").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"x\.model.*not a SentencePiece model"):
        load_tokenizer(str(tmp_path / "x.model"))
    (tmp_path / "vocab.txt").write_text("the\n")
    with pytest.raises(UserError, match=r"vocab\.txt"):
        load_tokenizer(str(tmp_path / "vocab.txt"))


ALBERTS = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": ["[CLS]", "[SEP]", "[MASK]"]}
DEBERTAS = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
DEBERTAS |= {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
SAID = "Hello café, a semi-final"


def sentencepiece_in(folder: Path, name: str, model_type: str, **kind) -> sentencepiece.SentencePieceProcessor:
    """A folder with a SentencePiece model, and what the model's own library makes of it."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([SAID, "the Quick brown fox", "jumps over the lazy dog"] * 20),
        model_writer=model,
        vocab_size=70,
        hard_vocab_limit=False,
        minloglevel=2,
        **kind,
    )
    folder.mkdir()
    (folder / name).write_bytes(model.getvalue())
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.mark.parametrize(
    ("name", "model_type", "kind", "shift"),
    [
        ("spm.model", "deberta-v2", DEBERTAS, 0),
        ("sentencepiece.bpe.model", "xlm-roberta", {"unk_id": 0, "bos_id": 1, "eos_id": 2}, 1),
        ("spiece.model", "albert", ALBERTS, 0),
    ],
)
def test_a_sentencepiece_model_is_the_tokenizer_of_its_model(tmp_path, name, model_type, kind, shift):
    """XLM-R's ids begin one later than those of its file."""
    reference = sentencepiece_in(tmp_path / "it", name, model_type, **kind)
    cased = {"do_lower_case": False, "keep_accents": True}
    (tmp_path / "it/tokenizer_config.json").write_text(json.dumps(cased))
    tokenizer = load_tokenizer(str(tmp_path / "it"))
    ids = tokenizer(SAID, add_special_tokens=False).input_ids
    assert ids == [id_ + shift for id_ in reference.encode(SAID)]
    assert len({*special_ids(tokenizer)}) == 5
    tokenizer.save_pretrained(tmp_path / "saved")
    assert TextEncoder(load_tokenizer(str(tmp_path / "saved"))).plain([SAID]) == [ids]


def test_case_and_accents_are_those_of_the_settings(tmp_path):
    sentencepiece_in(tmp_path / "it", "spiece.model", "albert", **ALBERTS)
    shown = {}
    for name, settings in {
        "as ALBERT": {},
        "cased": {"do_lower_case": False},
        "accents": {"keep_accents": True},
    }.items():
        (tmp_path / "it/tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = load_tokenizer(str(tmp_path / "it"))
        shown[name] = "".join(tokenizer.tokenize("Hello café")).replace("▁", " ").strip()
    assert shown == {"as ALBERT": "hello cafe", "cased": "Hello cafe", "accents": "hello café"}


def test_files_of_another_tokenizer_are_refused(tmp_path):
    sentencepiece_in(tmp_path / "it", "spm.model", "deberta-v2", **DEBERTAS)
    (tmp_path / "it/config.json").unlink()
    for place in (tmp_path / "it", tmp_path / "it/spm.model"):
        with pytest.raises(UserError, match=r"spm\.model: not a .* of ALBERT's kind .*\[MASK\]"):
            load_tokenizer(str(place))
    (tmp_path / "it/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"BertTokenizer\w* reads vocab\.txt, which is not there"):
        load_tokenizer(str(tmp_path / "it"))
    (tmp_path / "it/config.json").write_text('{"model_type": ')
    with pytest.raises(UserError, match=r"config\.json: cannot be read"):
        load_tokenizer(str(tmp_path / "it"))


def test_a_token_that_is_no_piece_is_refused(tmp_path):
    place = wordpiece(tmp_path)
    settings = json.loads((place / "tokenizer_config.json").read_text())
    (place / "tokenizer_config.json").write_text(json.dumps(settings | {"unk_token": ""}))
    with pytest.raises(UserError, match="the tokenizer has no unk_token"):
        load_tokenizer(str(place))


def test_vocabularies_of_bert_and_roberta(tmp_path):
    """With the files that they came with before there was tokenizer.json."""
    (tmp_path / "bert").mkdir()
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Hello", "hello", "caf", "##é", "##e"]
    (tmp_path / "bert/vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    with pytest.raises(UserError, match=r"no tokenizer can be loaded .*tokenizer_config\.json, which says its class"):
        load_tokenizer(str(tmp_path / "bert"))
    (tmp_path / "bert/config.json").write_text('{"model_type": "bert"}')
    assert load_tokenizer(str(tmp_path / "bert")).tokenize("Hello café") == ["hello", "caf", "##e"]
    (tmp_path / "bert/tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert load_tokenizer(str(tmp_path / "bert")).tokenize("Hello café") == ["Hello", "caf", "##é"]

    roberta = tmp_path / "roberta"
    roberta.mkdir()
    (roberta / "config.json").write_text('{"model_type": "roberta"}')
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"Helo", "Ġ", "He", "Ġl", "ä", "½", "ł"]
    (roberta / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    with pytest.raises(UserError, match=r"no tokenizer can be loaded .*merges"):
        load_tokenizer(str(roberta))
    (roberta / "merges.txt").write_text("#version: 0.2\nH e\nĠ l\n", encoding="utf-8")
    tokenizer = load_tokenizer(str(roberta))
    ids = TextEncoder(tokenizer).plain(["Hello lo 你"])[0]
    assert tokenizer.convert_ids_to_tokens(ids) == ["He", "l", "l", "o", "Ġl", "o", "Ġ", "ä", "½", "ł"]
    assert word_start_table(tokenizer)[ids].tolist() == [False] * 4 + [True, False, True, True, True, True]


@pytest.mark.parametrize("make", ["trained", "wordpiece"])
def test_text_that_spells_a_special_token_is_text(make, trained, tmp_path):
    tokenizer = trained if make == "trained" else load_tokenizer(str(wordpiece(tmp_path)))
    encode = TextEncoder(tokenizer, max_length=40)
    spelt = [tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token, tokenizer.mask_token, "[SEP]", "<pad>"]
    text = " the ".join(spelt)
    known = {*special_ids(tokenizer)} - {tokenizer.unk_token_id}
    for texts in ([text], [(text, text)]):
        (encoding,) = encode(texts)
        specials = [id_ for id_ in encode.ids(encoding) if id_ in known]
        expected = [tokenizer.cls_token_id] + [tokenizer.sep_token_id] * (2 if isinstance(texts[0], tuple) else 1)
        assert specials == expected
        assert len(encoding.ids) <= 40
    assert not {*encode.plain([text])[0]} & known
    with_masks = TextEncoder(tokenizer, masks=True)
    ids = with_masks.ids(with_masks([f"the {tokenizer.mask_token} the {tokenizer.sep_token}"])[0])
    assert ids.count(tokenizer.mask_token_id) == ids.count(tokenizer.sep_token_id) == 1


def test_texts_are_cut_as_hugging_face_cuts_them(trained):
    first, second = "In the beginning God created the heaven", "And the earth was without form, and void."
    for most in (8, 20, 200):
        encode = TextEncoder(trained, most)
        for one in (first, (first, second), (second, first)):
            given = [one] if isinstance(one, str) else one
            reference = trained(*given, truncation="longest_first", max_length=most, return_token_type_ids=True)
            (encoding,) = encode([one])
            assert (encode.ids(encoding), encoding.type_ids) == (reference.input_ids, reference.token_type_ids)


SPACELESS = {
    "Chinese": "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜金生丽水玉出昆冈",
    "Japanese": "いろはにほへとちりぬるをわかよたれそつねならむうゐのおくやまけふこえてあさきゆめみしゑひもせす",
    "Thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่ากว่าบรรดาฝูงสัตว์เดรัจฉานจงฝ่าฟันพัฒนาวิชาการอย่าล้างผลาญฤๅเข่นฆ่าบีฑาใคร",
}


@pytest.mark.parametrize("language", SPACELESS)
def test_masks_of_text_without_spaces_spend_their_budget(language):
    text = SPACELESS[language]
    tokenizer = train_tokenizer([text[start : start + 30] for start in range(len(text) - 30)] * 5, 70)
    ids = np.array(TextEncoder(tokenizer).plain([text])[0])
    rule = MaskingRule.of(tokenizer, 60, 0.2, None)
    lengths = np.array([len(ids) // 2, len(ids) - len(ids) // 2])
    for seed in range(5):
        sample = make_sample(ids, lengths, rule, np.random.default_rng(seed))
        assert (sample.labels != NOT_PREDICTED).sum() == round(0.2 * len(sample.input_ids)) >= 4


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
