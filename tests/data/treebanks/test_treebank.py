"""Treebanks: words in their sentences, pieces at their words, rows of them, and what is wrong with a file."""

import gzip
from collections import Counter

import pytest

from depthlab.data.tokenization import TextEncoder, load_tokenizer
from depthlab.data.treebanks.alignment import align, piece_rows, read_aligned, read_treebank
from depthlab.errors import UserError
from tests.support import SHARED, UNIGRAM

TREEBANKS = ["ud-english-ewt/en_ewt-ud-dev.conllu.gz", "gum/gum-dev.conllu.gz"]
TOKENIZERS = {"unigram": UNIGRAM, "albert": SHARED / "albert-spm", "wordpiece": None}


def row(id_, form, upos="X", deprel="dep", misc="_", head=0):
    return "\t".join([str(id_), form, "_", upos, "_", "_", str(head), deprel, "_", misc])


def write(folder, *sentences):
    """A file of sentences, each a list of comments and rows."""
    file = folder / "made.conllu"
    file.write_text("\n\n".join("\n".join(sentence) for sentence in sentences) + "\n\n", encoding="utf-8")
    return file


MADE = [
    [
        "# newdoc id = made",
        "# sent_id = made-1",
        '# text = They didn\'t say "Ünïcode… ½ ﬁt", I. S. İzmir—CAN\u00a0T!',
        row(1, "They", "PRON", "nsubj"),
        row("2-3", "didn't", "_", "_"),
        row(2, "did", "AUX", "aux"),
        row(3, "n't", "PART", "advmod"),
        row(4, "say", "VERB", "root"),
        row("4.1", "nothing", "NOUN", "_"),
        row(5, '"', "PUNCT", "punct", "SpaceAfter=No"),
        row(6, "Ünïcode", "NOUN", "obj", "SpaceAfter=No"),
        row(7, "…", "PUNCT", "punct"),
        row(8, "½", "NUM", "nummod"),
        row(9, "ﬁt", "ADJ", "amod", "SpaceAfter=No"),
        row(10, '"', "PUNCT", "punct", "SpaceAfter=No"),
        row(11, ",", "PUNCT", "punct"),
        row(12, "I. S.", "PROPN", "flat"),
        row(13, "İzmir", "PROPN", "obl", "SpaceAfter=No"),
        row(14, "—", "PUNCT", "punct", "SpaceAfter=No"),
        row("15-16", "CAN\u00a0T", "_", "_", "SpaceAfter=No"),
        row(15, "Can", "AUX", "aux"),
        row(16, "\u00a0T", "PART", "advmod"),
        row(17, "!", "PUNCT", "punct"),
    ],
    ["# text = à du pain", row(1, "à"), row("2-3", "du"), row(2, "de", head=3), row(3, "le"), row(4, "pain", "NOUN")],
    [row(1, "No"), row(2, "text", "_", "_", "SpaceAfter=No"), row(3, ".")],  # without `# text`
]


@pytest.fixture(scope="module")
def unigram():
    return load_tokenizer(str(TOKENIZERS["unigram"]))


def test_words_stand_in_their_text(tmp_path):
    treebank = read_treebank(write(tmp_path, *MADE))
    assert treebank.unaligned == []
    first, french, bare = treebank.sentences
    assert first.id == "made-1" and french.id == "made.conllu, line 25"
    assert [word.form for word in first.words[:4]] == ["They", "did", "n't", "say"]
    for word in first.words:
        assert first.text[slice(*word.span)].lower() == word.form.lower()
    assert [word.upos for word in first.words[1:3]] == ["AUX", "PART"]
    assert [word.deprel for word in first.words[1:3]] == ["aux", "advmod"]
    assert [word.span for word in french.words] == [(0, 1), None, (2, 4), (5, 9)]  # "le" heads "du" here
    assert [sentence.document for sentence in (first, french, bare)] == ["made"] * 3
    assert bare.text == "No text." and (bare.words[1].upos, bare.words[1].deprel) == (None, None)


def test_pieces_belong_to_their_words(tmp_path, unigram):
    first, french, _ = read_treebank(write(tmp_path, *MADE)).sentences
    pieces = align(first, TextEncoder(unigram))
    forms = unigram.convert_ids_to_tokens(pieces.input_ids)
    spelled = {}
    for form, word in zip(forms[1:-1], pieces.words[1:-1], strict=True):
        spelled[word] = spelled.get(word, "") + form.lstrip("▁").replace("<unk>", "?")
    expected = ["they", "didn", "'t", "say", '"', "unicode", "...", "1?2", "fit", '"', ",", "i.s.", "izmir", "?"]
    # "didn" covers three characters of "did" and one of "n't", so it is a piece of the first
    assert [spelled[index] for index in range(14)] == expected
    assert pieces.words[0] is None and pieces.words[-1] is None
    assert "".join(spelled[index] for index in (14, 15, 16)) == "cant!"
    pieces = align(french, TextEncoder(unigram))
    forms = [form.lstrip("▁") for form in unigram.convert_ids_to_tokens(pieces.input_ids)]
    assert "".join(form for form, word in zip(forms, pieces.words, strict=True) if word == 3) == "pain"
    assert "".join(form for form, word in zip(forms, pieces.words, strict=True) if word == 2) == "du"
    assert 1 not in pieces.words


def test_pieces_of_a_wordpiece_vocabulary(tmp_path, letters):
    """It drops accents and control characters, and parts words at all punctuation."""
    sentence = [row(1, "Ca\u0301n", misc="SpaceAfter=No"), row(2, "n't", misc="SpaceAfter=No"), row(3, "\u200b")]
    sentence += [row(4, "ÀÉ-x", misc="SpaceAfter=No"), row(5, "."), row(6, "x7"), row(7, "b")]
    (read,) = read_treebank(write(tmp_path, sentence)).sentences
    pieces = align(read, TextEncoder(letters))
    tokens = letters.convert_ids_to_tokens(pieces.input_ids)
    expected = "0c 0##a 0##n 1##n 1[UNK] 1t 3a 3##e 3[UNK] 3x 4. 5[UNK] 6b"
    assert " ".join(f"{word}{token}" for word, token in zip(pieces.words[1:-1], tokens[1:-1], strict=True)) == expected
    assert 2 not in pieces.words, "nothing is left of a zero-width space"


def test_a_sentence_that_is_not_its_words_is_left_out_and_counted(tmp_path):
    wrong = ["# sent_id = w1", "# text = One two three", row(1, "One"), row(2, "too"), row(3, "three")]
    longer = ["# sent_id = w2", "# text = One two three", row(1, "One"), row(2, "two")]
    treebank = read_treebank(write(tmp_path, wrong, MADE[0], longer))
    assert [sentence.id for sentence in treebank.sentences] == ["made-1"]
    assert len(treebank.unaligned) == 2
    assert "w1 (" in treebank.unaligned[0]
    assert "made.conllu, line 1): 'too' is not at character 5" in treebank.unaligned[0]
    assert "line 31" in treebank.unaligned[1] and "'three'" in treebank.unaligned[1]


def test_columns_part_at_tabs_alone(tmp_path):
    words = [row(1, "of  course", "ADV", "advmod"), row(2, "y\u2028\x0be\x85s", "INTJ", "root")]
    (found,) = read_treebank(write(tmp_path, ["# text = of  course y\u2028\x0be\x85s", *words])).sentences
    assert [word[:3] for word in found.words] == [
        ("of  course", "ADV", "advmod"),
        ("y\u2028\x0be\x85s", "INTJ", "root"),
    ]


def test_all_that_the_format_allows(tmp_path):
    """Empty nodes before the first word and in a row, one within a range, comments of any kind, columns left blank."""
    bare, blank = row(2, "b", upos="_", deprel="_", head="_"), "\t_" * 8
    sentence = [
        *("# newpar", "#", "# text_en = a = b", "# s\ttab", f"0.1\tx{blank}", row(1, "a"), bare, f"2.1\t_{blank}"),
        *(f"2.2\t_{blank}", f"3-4\tcd{blank}", row(3, "c"), f"3.1\t_{blank}", row(4, "d"), f"5-5\te{blank}"),
        row(5, "e", misc="SpaceAfter=No|Gloss=a=b|X"),
    ]
    file = write(tmp_path, sentence)
    (found,) = read_treebank(file).sentences
    assert found.text == "a b cd e" and [found.text[slice(*word.span)] for word in found.words] == [*"abcde"]
    assert found.words[1][1:3] == (None, None)


def test_a_form_that_is_withheld_is_no_word(tmp_path):
    all_ = ["# sent_id = all", "# text = _ _", row(1, "_", "NOUN"), row(2, "_", "PUNCT")]
    some = ["# text = He _ it.", row(1, "He"), row(2, "_", "VERB"), row(3, "it", misc="SpaceAfter=No"), row(4, ".")]
    without = [row(1, "He"), row(2, "_", "VERB"), row(3, "it")]
    ranged = ["# text = _ x", "1-2\t_" + "\t_" * 8, row(1, "_"), row(2, "_"), row(3, "x")]
    literal = ["# text = snake _ case", row(1, "snake"), row(2, "_", "PUNCT"), row(3, "case")]
    treebank = read_treebank(write(tmp_path, all_, some, without, ranged, literal))
    forms = [[word.form for word in sentence.words] for sentence in treebank.sentences]
    assert forms == [["He", "it", "."], ["He", "it"], ["x"], ["snake", "_", "case"]]
    assert treebank.sentences[1].text == "He it"
    (left_out,) = treebank.unaligned
    assert left_out.startswith("all (") and left_out.endswith("the forms of its words are withheld")


def test_a_long_sentence_takes_time_by_its_length(tmp_path, unigram):
    """40,000 words and a form of a million characters: with a look at the text for each word, it takes minutes."""
    words = [row(number, "word") for number in range(1, 40_001)]
    treebank = read_treebank(write(tmp_path, words, [row(1, "x" * 1_000_000)]))
    assert [len(sentence.words) for sentence in treebank.sentences] == [40_000, 1]
    assert len({*align(treebank.sentences[0], TextEncoder(unigram)).words}) == 40_001


def test_words_that_spell_special_tokens_are_text(tmp_path, unigram):
    words = [row(number, form) for number, form in enumerate(["a", "[SEP]", "b", "<pad>", "[MASK]"], 1)]
    treebank = read_aligned([write(tmp_path, words)], unigram, 64)
    ids = treebank.pieces[0].input_ids[1:-1]
    assert not {*ids} & {unigram.sep_token_id, unigram.pad_token_id, unigram.mask_token_id}
    assert {*piece_rows(treebank, unigram)["form"]} == {"a", "[SEP]", "b", "<pad>", "[MASK]"}


def test_gzip_holds_the_same(tmp_path):
    file = write(tmp_path, *MADE)
    zipped = tmp_path / "made.conllu.gz"
    zipped.write_bytes(gzip.compress(file.read_bytes()))
    assert [s.words for s in read_treebank(zipped).sentences] == [s.words for s in read_treebank(file).sentences]


BAD = {
    "too few columns": ([row(1, "a"), "2\tb\t_"], r"made\.conllu, line 2: 3 columns, not 10"),
    "spaces for tabs": ([row(1, "a").replace("\t", "  ")], "line 1: 1 columns, not 10"),
    "no number": ([row("x", "a")], "line 1: .*'x' is not a valid ID"),
    "head that is none": ([row(1, "a").replace("\t0\t", "\tzero\t")], "line 1: .*zero"),
    "an endless number": ([row("9" * 10_000, "a")], "line 1: '9+' is not a valid ID"),
    "an endless head": ([row(1, "a", head="9" * 10_000)], "line 1: '9+' is not a valid HEAD"),
    "number left out": ([row(1, "a"), row(3, "b")], "line 2: 3 can't follow word 1"),
    "no blank line": ([row(1, "a"), row(1, "b")], "line 2: 1 can't follow word 1; .*part sentences"),
    "multiword token too late": ([row(1, "a"), row("1-2", "b")], "line 2: 1-2 can't follow word 1"),
    "overlapping": ([row("1-2", "ab"), row(1, "a"), row("2-3", "bc")], "line 3: 2-3 can't follow"),
    "multiword token without words": ([row("1-3", "abc"), row(1, "a")], "goes to word 3, the last is 1"),
    "nothing": (["# only a comment"], "no sentence in it"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_names_its_line(tmp_path, name):
    lines, message = BAD[name]
    with pytest.raises(UserError, match=message):
        read_treebank(write(tmp_path, lines))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"no\.conllu"):
        read_treebank(tmp_path / "no.conllu")
    (tmp_path / "broken.conllu.gz").write_bytes(gzip.compress(b"1\ta\n" * 99)[:20])
    with pytest.raises(UserError, match="broken gzip"):
        read_treebank(tmp_path / "broken.conllu.gz")


def check_by_offsets(sentence, words, encoded):
    """Against counting characters that are no whitespace, of forms and of what pieces cover."""
    text = sentence.text
    before = [len("".join(text[:end].split())) for end in range(len(text) + 1)]
    ends, total = [], 0
    for word in sentence.words:
        total += len("".join(word.form.split()))
        ends.append(total)
    assert total == before[-1]
    offsets, specials = encoded["offset_mapping"], encoded["special_tokens_mask"]
    for (start, end), special, word in zip(offsets, specials, words, strict=True):
        if special:
            assert word is None
            continue
        covered = range(before[start], max(before[end], before[start] + 1))
        owners = Counter(next(index for index, stop in enumerate(ends) if character < stop) for character in covered)
        assert owners[word] == max(owners.values()) and word == min(o for o in owners if owners[o] == owners[word])


def check_by_spelling(sentence, words, pieces, normalize):
    """Against lengths of normalised forms and of pieces alone, without offsets: how many pieces that settles."""
    ends, total = [], 0
    for word in sentence.words:
        total += len("".join(normalize(word.form).split()))
        ends.append(total)
    spelled = [piece.lstrip("▁") for piece in pieces]
    if "<unk>" in spelled or sum(map(len, spelled)) != total:
        return 0  # who can say how long an unknown piece is
    position = checked = 0
    for piece, word in zip(spelled, words, strict=True):
        start, position = position, position + len(piece)
        inside = [index for index, stop in enumerate(ends) if start < stop and position <= stop][:1]
        begins = [0, *ends][inside[0]] if inside else None
        if piece and begins is not None and start >= begins:
            assert word == inside[0], (sentence.text, piece)
            checked += 1
    return checked


def test_rows_are_the_pieces_of_words(tmp_path, unigram):
    other = tmp_path / "other"
    other.mkdir()
    long = ["# sent_id = long", *(row(number, "word") for number in range(1, 50))]
    files = [write(tmp_path, *MADE[:2], long), write(other, ["# newdoc", *MADE[2]], ["# newdoc id = b", row(1, "a")])]
    treebank = read_aligned(files, unigram, max_length=48)
    assert treebank.too_long == ["long"] and not treebank.unaligned
    rows = piece_rows(treebank, unigram)
    assert (rows["kind"] == "PLAIN").all()
    assert rows.groupby("sentence")["document"].first().tolist() == ["made", "made", "made.conllu-1", "b"]
    assert rows.groupby("sentence")["sentence_length"].unique().map(list).tolist() == [[17], [4], [3], [1]]
    words = rows.groupby(["sentence", "word"])
    assert (words["piece"].max() + 1 == words["pieces"].first()).all() and (words.size() == words["pieces"].max()).all()
    for number, ids in enumerate(pieces.input_ids for pieces in treebank.pieces):
        of = rows[rows["sentence"] == number]
        assert of["token"].tolist() == unigram.convert_ids_to_tokens([ids[position] for position in of["position"]])
        assert of["position"].tolist() == list(range(1, len(ids) - 1)), "every piece but [CLS] and [SEP] is of a word"
    du = rows[(rows["sentence"] == 1) & (rows["form"] == "le")]
    assert "".join(du["token"]).strip("▁") == "du" and rows["upos"].isna().sum() == (rows["form"] == "text").sum() > 0


@pytest.mark.parametrize(("field", "column"), [("upos", "UPOS, column 4"), ("deprel", "DEPREL, column 8")])
def test_a_treebank_without_annotation_is_refused(tmp_path, unigram, field, column):
    file = write(tmp_path, [row(1, "a", **{field: "_"}), row(2, "b", **{field: "_"})])
    with pytest.raises(UserError, match=rf"made\.conllu: no word in it has a {column}"):
        read_aligned([file], unigram, max_length=48)


def test_a_treebank_of_which_nothing_is_left(tmp_path, unigram):
    file = write(tmp_path, ["# text = b", row(1, "a")], ["# text = a a a a", *(row(i, "a") for i in range(1, 5))])
    with pytest.raises(UserError, match=r"no sentence is left of it \(1 are not their words, 1 over 5 pieces\)"):
        read_aligned([file], unigram, max_length=5)


@pytest.mark.full
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("treebank", TREEBANKS)
def test_every_piece_of_real_treebanks(treebank, tokenizer, letters):
    is_wordpiece = tokenizer == "wordpiece"
    tokenizer = letters if is_wordpiece else load_tokenizer(str(TOKENIZERS[tokenizer]))
    normalize = tokenizer.backend_tokenizer.normalizer.normalize_str
    encode = TextEncoder(tokenizer)
    sentences, unaligned = read_treebank(SHARED / treebank)
    assert not unaligned and len(sentences) in (2001, 1575)
    checked = total = 0
    for sentence in sentences:
        ids, words = align(sentence, encode)
        encoded = tokenizer(sentence.text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        assert encoded["input_ids"] == ids
        check_by_offsets(sentence, words, encoded)
        pieces = tokenizer.convert_ids_to_tokens(ids[1:-1])
        assert None not in words[1:-1]
        if not is_wordpiece:
            checked += check_by_spelling(sentence, words[1:-1], pieces, normalize)
        total += len(pieces)
    assert checked > 0.75 * total or is_wordpiece, "most pieces are settled without offsets, too"


def test_every_piece_of_the_made_sentences(tmp_path, unigram):
    """What the test of real treebanks checks, on the first of the sentences here."""
    (sentence,) = read_treebank(write(tmp_path, MADE[0])).sentences
    encoded = unigram(sentence.text, return_offsets_mapping=True, return_special_tokens_mask=True)
    check_by_offsets(sentence, align(sentence, TextEncoder(unigram)).words, encoded)
