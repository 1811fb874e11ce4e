import json
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk
from hypothesis import given
from hypothesis import strategies as st

from depthlab.data.corpora import digests, preparation
from depthlab.data.corpora.chunks import ChunkSettings, chunk_sentences
from depthlab.data.corpora.corpus import as_sources
from depthlab.data.corpora.parts import Part, SplitSettings
from depthlab.data.corpora.preparation import Places, describe, prepare, summarise
from depthlab.data.corpora.sentences import split_sentences
from depthlab.data.tokenization import load_tokenizer
from depthlab.errors import UserError

SETTINGS = ChunkSettings(max_length=64, short_sequence_probability=0.1)
SPLIT = SplitSettings(development=0.2, test=0.2, seed=0)


@given(
    lengths=st.lists(st.integers(1, 40), max_size=60),
    target=st.integers(2, 61),
    short=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_chunks(lengths, target, short, seed):
    chunks = chunk_sentences(lengths, target, short, np.random.default_rng(seed))
    if len(lengths) < 2:
        assert chunks == []
        return
    # Every sentence once, in order, and two or more to a chunk.
    assert [start for start, _ in chunks] == [0, *(end for _, end in chunks[:-1])]
    assert chunks[-1][1] == len(lengths)
    assert all(end - start >= 2 for start, end in chunks)
    for start, end in chunks[:-1]:
        # No chunk goes on after its target, which is at most `target`: without the last sentence it had not reached it.
        assert end - start == 2 or sum(lengths[start : end - 1]) < target
        if short == 0.0:
            assert sum(lengths[start:end]) >= target


def test_short_targets_are_uniform():
    """Sentences of one piece: a chunk is as long as its target."""
    chunks = chunk_sentences([1] * 200_000, 20, 1.0, np.random.default_rng(0))
    sizes = np.array([end - start for start, end in chunks[:-1]])
    counts = np.bincount(sizes, minlength=21)[2:]
    assert len(counts) == 19
    assert abs(counts / len(sizes) - 1 / 19).max() < 0.012
    chunks = chunk_sentences([1] * 200_000, 20, 0.1, np.random.default_rng(0))
    full = np.mean([end - start == 20 for start, end in chunks])
    assert full == pytest.approx(0.9 + 0.1 / 19, abs=0.01)


def run(corpus, cache: Path, settings=SETTINGS, tokenizer=None, vocab_size=600, workers=1, split=SPLIT):
    return prepare(Places(as_sources(corpus), tokenizer, vocab_size, settings, split, cache), workers)


@pytest.fixture
def tokenizer(corpus, cache) -> str:
    """Trained on the corpus."""
    return str(run(str(corpus), cache).tokenizer)


def test_stored_chunks_are_the_text(corpus, cache, chapters):
    prepared = run(str(corpus), cache)
    tokenizer = load_tokenizer(str(prepared.tokenizer))
    chunks = load_from_disk(prepared.chunks[0])
    assert chunks.features["ids"].feature.dtype == "uint16"
    by_document = {}
    for row, part in zip(chunks, prepared.parts_of(0), strict=True):
        lengths = by_document.setdefault(row["document"], ([], [], set()))
        assert sum(row["sentence_lengths"]) == len(row["ids"])
        lengths[0].extend(row["ids"])
        lengths[1].extend(row["sentence_lengths"])
        lengths[2].add(int(part))
    for document, (ids, lengths, parts) in by_document.items():
        expected = [tokenizer(s, add_special_tokens=False).input_ids for s in split_sentences(chapters[document])]
        assert ids == [piece for sentence in expected for piece in sentence]
        assert lengths == [len(sentence) for sentence in expected]
        assert len(parts) == 1
    summary = summarise(prepared)
    assert summary["documents"] == len(chapters) == len(by_document)
    assert summary["dropped"] == 0
    assert summary["chunks"] == len(chunks)
    assert summary["tokens"] == sum(len(ids) for ids, _, _ in by_document.values())
    assert summary["sentences"] == sum(len(lengths) for _, lengths, _ in by_document.values())
    for part in Part:
        of_part = [document for document in by_document.values() if document[2] == {part}]
        assert summary["sources"][0][part.name.lower()] == {
            "documents": len(of_part),
            "tokens": sum(len(ids) for ids, _, _ in of_part),
            "chunks": sum(prepared.parts_of(0) == part),
        }


def test_parallel_preparation_is_the_same(tokenizer, corpus, tmp_path):
    one, two = (run(str(corpus), tmp_path / str(n), tokenizer=tokenizer, workers=n) for n in (1, 2))
    assert one.chunks[0].name == two.chunks[0].name
    assert load_from_disk(one.chunks[0]).to_dict() == load_from_disk(two.chunks[0]).to_dict()


def test_duplicates_are_in_one_part_wherever_they_are(cache, tmp_path, chapters):
    documents = chapters[::-1] + chapters
    (tmp_path / "twice.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    prepared = run(str(tmp_path / "twice.jsonl"), cache)
    document = load_from_disk(prepared.chunks[0])["document"]
    part = dict(zip(document, prepared.parts_of(0).tolist(), strict=True))
    assert [part[n] for n in range(24)][::-1] == [part[n] for n in range(24, 48)]
    assert set(part.values()) == {Part.TRAINING, Part.DEVELOPMENT, Part.TEST}


def test_special_tokens_in_the_text_are_text(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("He said [MASK] and [SEP] once. And <pad> twice.\n" * 20)
    row = load_from_disk(run(str(tmp_path / "a.txt"), tmp_path / "cache", tokenizer=tokenizer).chunks[0])[0]
    assert not {0, 2, 3, 4} & set(row["ids"])


def test_cache(corpus, cache, tmp_path, monkeypatch):
    first = run(str(corpus), cache)
    copy = tmp_path / "copy"
    copy.mkdir()
    text = (corpus / "chapters.txt").read_text()
    (copy / "other_name.txt").write_text(text)

    def forbidden(*args, **kwargs):
        raise AssertionError("worked in spite of the cache")

    with monkeypatch.context() as patch:
        for name in ("load_documents", "train_tokenizer", "write_chunks"):
            patch.setattr(preparation, name, forbidden)
        assert run(str(corpus), cache) == first
        assert run(str(copy), cache) == first  # the same content elsewhere

    tokenizer = str(first.tokenizer)
    kept = ChunkSettings(64, 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_chunks", forbidden)  # another split reads no text
        again = run(str(corpus), cache, tokenizer=tokenizer, split=SplitSettings(0.2, 0.2, 1))
    assert again.chunks == first.chunks and again.parts != first.parts
    folders = {first.chunks[0]}
    for changed in (ChunkSettings(32, 0.1), ChunkSettings(64, 0.2)):
        folders |= set(run(str(corpus), cache, changed, tokenizer=tokenizer).chunks)
    (copy / "other_name.txt").write_text(text + "\n\nAnd more. And more still.")
    folders |= set(run(str(copy), cache, kept, tokenizer=tokenizer).chunks)
    other_vocabulary = run(str(corpus), cache, kept, vocab_size=601)
    assert other_vocabulary.tokenizer != first.tokenizer
    folders |= set(other_vocabulary.chunks)
    assert len(folders) == 5
    assert not list(cache.glob("preparing-*"))


def test_text_of_an_earlier_depthlab_is_made_anew_with_a_word(tokenizer, corpus, tmp_path, capsys):
    (tmp_path / "chunks-old").mkdir()
    (tmp_path / "chunks-old/summary.json").write_text('{"documents": 24, "validation_documents": 3}')
    for said in (True, False):  # once, not whenever the new is taken
        assert run(str(corpus), tmp_path, tokenizer=tokenizer).chunks != [tmp_path / "chunks-old"]
        assert ("two parts, not three (1 of its folders" in capsys.readouterr().err) is said


def test_near_duplicates_are_kept_together_across_sources(tokenizer, chapters, tmp_path):
    """Whatever their digest: what is trained on in one source is held out of no other; an external set is told."""
    for name, texts in (("plain", chapters), ("loud", [f"{text.upper()} Amen." for text in chapters])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sources = [str(tmp_path / "plain.jsonl"), str(tmp_path / "loud.jsonl")]
    prepared = run(sources, tmp_path / "cache", tokenizer=tokenizer)
    one, other = (
        dict(zip(load_from_disk(prepared.chunks[n])["document"], prepared.parts_of(n).tolist(), strict=True))
        for n in range(2)
    )
    assert one == other and len(one) == 24
    assert summarise(prepared)["moved"] > 0
    external = [{"path": sources[0], "part": "training"}, {"path": sources[1], "part": "test"}]
    summary = summarise(run(external, tmp_path / "cache", tokenizer=tokenizer))
    assert summary["sources"][1]["left_out"]["documents"] == summary["moved"] == 24
    assert "left out: documents" in describe(summary, ["plain", "loud"])


def only_tokenizers(cache: Path) -> bool:
    """Whether neither chunks nor scratch folders are left; a finished tokenizer may be."""
    return all(path.name.startswith(("tokenizer-", ".")) for path in cache.iterdir())


def test_a_complete_cache_is_only_read(corpus, cache, monkeypatch):
    """So that it may lie on a disk that can't be written."""
    monkeypatch.setattr(digests, "SETTLED", 0)
    first = run(str(corpus), cache)

    def times():
        return {path: path.stat().st_mtime_ns for path in (cache, *cache.rglob("*"))}

    before = times()
    assert run(str(corpus), cache) == first and times() == before


def test_full_disk(corpus, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    from datasets import Dataset
    from datasets.arrow_writer import ArrowWriter

    steps = [(ArrowWriter, "write_table"), (ArrowWriter, "finalize"), (Dataset, "save_to_disk")]
    for owner, name in (*steps, (preparation.os, "rename")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with pytest.raises(UserError, match=r"No space left on device.*data\.cache_dir") as caught:
                run(str(corpus), tmp_path / "cache")
        assert "\n" not in str(caught.value)
        assert only_tokenizers(tmp_path / "cache")


def test_unreadable_corpus_is_not_a_full_cache(tokenizer, corpus, tmp_path, monkeypatch):
    """Not when the file goes bad after its digest is taken either."""
    plain_open = Path.open

    def broken(path, *args, **kwargs):
        if path.name == "chapters.txt":
            raise OSError(5, "Input/output error")
        return plain_open(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(UserError, match=r"chapters\.txt: cannot be read \(Input/output error\)"):
        run(str(corpus), tmp_path / "cache", tokenizer=tokenizer)
    monkeypatch.setattr(preparation, "content_digest", lambda source, cache_dir: "digest")
    with pytest.raises(UserError, match=r"chapters\.txt: cannot be read \(Input/output error\)"):
        run(str(corpus), tmp_path / "cache", tokenizer=tokenizer)


def test_cache_that_cannot_be_written(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data\.cache_dir"):
        run(str(corpus), tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no document"),
        ("One sentence.\n\nAnother one.\n", "no document of two sentences"),
        ("\xff", "line 1: not valid UTF-8"),
    ],
)
def test_unusable_text(tokenizer, content, message, tmp_path):
    (tmp_path / "a.txt").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=message) as caught:
        run(str(tmp_path), tmp_path / "cache", tokenizer=tokenizer)
    assert "a.txt" in str(caught.value) or str(tmp_path) in str(caught.value)
    assert only_tokenizers(tmp_path / "cache")


def test_sentence_a_row_is_found_before_anything_is_tokenized(corpus, cache, tmp_path, monkeypatch):
    """In the last source too, and by a look at some of its documents."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "A sentence."}\n' * 3000)
    looks = []
    monkeypatch.setattr(preparation, "split_sentences", lambda text: looks.append(text) or split_sentences(text))
    for name in ("train_tokenizer", "write_chunks"):
        monkeypatch.setattr(preparation, name, lambda *args: pytest.fail("worked before it looked"))
    kept = next(path for path in cache.glob("tokenizer-*"))
    vocab_size = len(load_tokenizer(str(kept)))
    for tokenizer in (None, str(kept)):
        looks.clear()
        with pytest.raises(UserError, match=r"rows\.jsonl has no document of two sentences .* join those") as caught:
            run([str(corpus), str(rows)], tmp_path / "cache", tokenizer=tokenizer, vocab_size=vocab_size)
        assert "\n" not in str(caught.value)
        assert len(looks) == 1001


def test_long_documents_may_come_last(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("A sentence.\n\n" * 3000 + "Two of them. Here.\n\n" * 30)
    summary = summarise(run(str(tmp_path / "a.txt"), tmp_path / "cache", tokenizer=tokenizer))
    assert (summary["dropped"], summary["chunks"]) == (3000, 30)


def test_dropped_documents_are_counted(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("One sentence.\n\nTwo of them. Here.\n\nLone.\n")
    summary = summarise(run(str(tmp_path), tmp_path / "cache", tokenizer=tokenizer))
    assert (summary["documents"], summary["dropped"], summary["chunks"]) == (3, 2, 1)


def test_streaming_gives_the_same_chunks(tokenizer, chapters, tmp_path):
    """Of several files, by several processes; the document's number tells documents apart, no more."""
    (tmp_path / "text").mkdir()
    for number in range(3):
        text = "\n\n".join([*(chapters[number::2] if number < 2 else ()), "Too short."])
        (tmp_path / f"text/{number}.txt").write_text(text, encoding="utf-8")
    tables, summaries = [], []
    for streaming, workers in ((False, 1), (True, 1), (True, 2)):
        source = {"path": str(tmp_path / "text"), "streaming": streaming}
        folder = tmp_path / f"{streaming}-{workers}"
        prepared = run([source], folder, tokenizer=tokenizer, workers=workers)
        assert {*folder.glob("[!.]*")} == {prepared.tokenizer, prepared.chunks[0], prepared.parts}
        table = load_from_disk(prepared.chunks[0]).to_dict()
        table["document"] = np.unique(table["document"], return_inverse=True)[1].tolist()
        table["part"] = prepared.parts_of(0).tolist()
        tables.append(table)
        summaries.append({name: value for name, value in summarise(prepared).items() if name != "seconds"})
    assert tables[0] == tables[1] == tables[2]
    assert summaries[0] == summaries[1] == summaries[2]
    assert (summaries[0]["documents"], summaries[0]["dropped"]) == (len(chapters) + 3, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stream_that_breaks(tokenizer, workers, tmp_path, monkeypatch):
    """After what is looked at: the line that is broken, and nothing is left."""
    monkeypatch.setattr(preparation, "TRAINING_CHARACTERS", 100)
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text('{"text": "One sentence. And another."}\n' * 50 + "{}\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 51: no text in field 'text'"):
        run({"path": str(tmp_path), "streaming": True}, tmp_path / "cache", tokenizer=tokenizer, workers=workers)
    assert only_tokenizers(tmp_path / "cache")
