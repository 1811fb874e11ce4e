"""`depthlab inspect`: what is shown is what the model does, in the terminal and on the page."""

import io
import os
import re

import pandas as pd
import pytest
import torch
from rich.console import Console
from transformers import AlbertConfig, AlbertForMaskedLM, AutoTokenizer

from depthlab.analysis.inspection import Inspector
from depthlab.cli import main
from depthlab.models import (
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
)
from depthlab.models.checkpoint import load_as_saved
from tests.models.conftest import SIZES
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.variants import build
from tests.support import error_of, printed_by, write_bert, write_checkpoint

PALE, STRONG = (255, 243, 224), (230, 97, 0)
TEXT = "The crows circled above [MASK], unbelievably."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("inspect") / "checkpoint")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Wide enough for a line, and without colours whatever the tests run in."""
    monkeypatch.setattr(Console, "_environ", os.environ)  # `datasets`, when it has run, left another object there
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def by_hand(checkpoint, text):
    """Pieces, depths and halting probabilities of the dense execution, and its logits."""
    model = AdaptiveAlbertForPreTraining.from_pretrained(checkpoint, execution="dense").eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    probabilities = []
    model.albert.encoder.halting.register_forward_hook(lambda _module, _inputs, p: probabilities.append(p[0]))
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=True)
    with torch.no_grad():
        output = model(**inputs)
    depths = output.depths[0].tolist()
    halting = [[probabilities[n][t].item() for n in range(depth)] for t, depth in enumerate(depths)]
    pieces = [piece.lstrip("▁") or "▁" for piece in tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])]
    return pieces, depths, halting, output, tokenizer


def columns(lines):
    """Text and number of every piece, read off a row of pieces and the row below: where each number starts."""
    starts = [match.start() for match in re.finditer(r"\d+", lines[1])]
    ends = [*starts[1:], None]
    texts = [lines[0][start:end].rstrip(" ·") for start, end in zip(starts, ends, strict=True)]
    return list(zip(texts, map(int, lines[1].split()), strict=True))


def test_depths_and_probabilities_are_the_models(checkpoint):
    pieces, depths, halting, *_ = by_hand(checkpoint, TEXT)
    inspector = Inspector(load_as_saved(str(checkpoint)), AutoTokenizer.from_pretrained(checkpoint))
    shown = inspector(TEXT)
    assert [piece.text for piece in shown.pieces] == pieces
    assert [piece.depth for piece in shown.pieces] == depths and len(set(depths)) > 1
    for piece, expected in zip(shown.pieces, halting, strict=True):
        assert piece.halting == pytest.approx(expected, abs=1e-5)
    assert shown.mean_depth == pytest.approx(sum(depths) / len(depths))


def test_the_terminal_without_colours(checkpoint):
    pieces, depths, _, output, tokenizer = by_hand(checkpoint, TEXT)
    printed = printed_by(["inspect", TEXT, f"--checkpoint={checkpoint}"])
    assert "\x1b" not in printed
    lines = printed.splitlines()
    assert columns(lines[2:4]) == list(zip(pieces, depths, strict=True))
    assert "·ably" in lines[2], "a piece that goes on is joined to its word"
    mask = pieces.index("[MASK]")
    best = output.prediction_logits[0, mask].softmax(-1).topk(5)
    (guesses,) = [line for line in lines if line.startswith(f"[MASK], piece {mask + 1}: ")]
    for token, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        assert f"{tokenizer.convert_ids_to_tokens(token).lstrip('▁')} {probability:.1%}" in guesses
    assert "at most" in lines[0] and "4" in lines[0]


def test_lines_break_between_words(capsys, monkeypatch, checkpoint):
    pieces, depths, *_ = by_hand(checkpoint, TEXT)
    monkeypatch.setenv("COLUMNS", "24")
    main(["inspect", TEXT, f"--checkpoint={checkpoint}"])
    blocks = [block.splitlines() for block in capsys.readouterr().out.strip().split("\n\n")]
    blocks = [block for block in blocks if re.fullmatch(r"[\d ]+", block[-1])]
    assert len(blocks) > 2 and all(len(line) <= 24 for block in blocks for line in block)
    assert [pair for block in blocks for pair in columns(block)] == list(zip(pieces, depths, strict=True))


def test_the_terminal_with_colours(monkeypatch, checkpoint):
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    printed = printed_by(["inspect", TEXT, f"--checkpoint={checkpoint}"])
    _, depths, *_ = by_hand(checkpoint, TEXT)
    cap = 4
    for depth in set(depths):  # the strongest colour is the cap's, whatever this text's deepest piece
        share = (depth - 1) / (cap - 1)
        colour = ";".join(str(round(pale + share * (strong - pale))) for pale, strong in zip(PALE, STRONG, strict=True))
        assert printed.count(f"48;2;{colour}m") == depths.count(depth)


def test_only_masks_are_read_as_special_tokens(checkpoint):
    inspector = Inspector(load_as_saved(str(checkpoint)), AutoTokenizer.from_pretrained(checkpoint))
    shown = inspector("a [SEP] b <pad> c [MASK].\t[CLS] d")
    texts = [piece.text for piece in shown.pieces]
    assert [texts.count(special) for special in ("[CLS]", "[SEP]", "<pad>", "[MASK]")][:2] == [1, 2]
    assert texts.count("[MASK]") == 1 and len([heading for heading, _ in shown.findings if "[MASK]" in heading]) == 1
    assert all(piece.depth for piece in shown.pieces), "what is padding has no depth"


def test_lines_end_where_the_format_says(checkpoint, tmp_path):
    (tmp_path / "texts.txt").write_bytes("the\u2028crow\x0bsaw\r\rthe cat".encode())
    printed = printed_by(["inspect", f"--file={tmp_path}/texts.txt", f"--checkpoint={checkpoint}"])
    assert printed.count("mean depth") == 2


def test_tables_are_what_the_model_gives(checkpoint, tmp_path):
    """All three hold the same rows; blank lines have none, and keep their numbers."""
    texts = {0: "The crows circled above me.", 2: 'In 1851, "unbelievably" deep, it said', 3: "the cat"}
    (tmp_path / "texts.txt").write_text("\n".join(texts.get(number, "") for number in range(4)), encoding="utf-8")
    read = {"csv": pd.read_csv, "jsonl": lambda file: pd.read_json(file, lines=True), "parquet": pd.read_parquet}
    expected = []
    for number, text in texts.items():
        pieces, depths, *_ = by_hand(checkpoint, text)
        rows = zip(pieces, depths, strict=True)
        expected += [(number, position, piece, depth) for position, (piece, depth) in enumerate(rows)]
    assert len({depth for *_, depth in expected}) > 1
    words = []
    for suffix, reader in read.items():
        file = tmp_path / f"depths.{suffix}"
        shown = printed_by(["inspect", f"--file={tmp_path}/texts.txt", f"--checkpoint={checkpoint}", f"--to={file}"])
        assert f"{len(expected):,} pieces of 3 texts" in shown
        table = reader(file)
        table["token"] = table["token"].astype(str)  # "1851" alone is read as it is
        assert [*table[["text", "position", "token", "depth"]].itertuples(index=False, name=None)] == expected, suffix
        words.append(table["word"].tolist())
    assert words[0] == words[1] == words[2]


def test_an_unknown_piece_shows_what_the_text_has(checkpoint):
    inspector = Inspector(load_as_saved(str(checkpoint)), AutoTokenizer.from_pretrained(checkpoint))
    shown = inspector("The crow 雪 circled.\tA 山 too")
    unknown = inspector.tokenizer.convert_tokens_to_ids("雪")
    assert unknown == inspector.tokenizer.unk_token_id
    texts = [piece.text for piece in shown.pieces]
    assert "雪" in texts and "山" in texts and inspector.tokenizer.unk_token not in texts


def test_the_page(tmp_path, checkpoint):
    pieces, depths, halting, *_ = by_hand(checkpoint, TEXT)
    page = tmp_path / "page.html"
    command = ["inspect", TEXT, "A <b> & a line.", f"--checkpoint={checkpoint}", f"--html={page}"]
    assert str(page) in printed_by(command)
    html = page.read_text()
    shown = html.split('<span class="piece"')[1 : len(pieces) + 1]
    for piece, depth, probabilities, part in zip(pieces, depths, halting, shown, strict=True):
        assert f">{piece}<b>{depth}</b>" in part
        cells = re.findall(r"<tr><td>(\d+)</td><td>([\d.]+)</td>", part)
        assert [int(n) for n, _ in cells] == list(range(1, depth + 1))
        assert [float(p) for _, p in cells] == pytest.approx(probabilities, abs=6e-4)
    for reference in ("http", "src=", "href=", "url(", "@import", "<script", "<unk>"):
        assert reference not in html, reference
    assert "prefers-color-scheme" in html or "color-scheme: light dark" in html
    main(command)  # a page of ours may be replaced
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def piped(content):
    """As a shell without a locale has it: bytes that are not UTF-8 are no error yet."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="surrogateescape")


def test_sources_of_texts(capsys, monkeypatch, tmp_path, checkpoint):
    (tmp_path / "texts.txt").write_text("One crow.\n\nTwo crows.\tA pair.\n")
    from_file = printed_by(["inspect", f"--file={tmp_path}/texts.txt", f"--checkpoint={checkpoint}"])
    monkeypatch.setattr("sys.stdin", piped(b"One crow.\n\nTwo crows.\tA pair.\n"))
    main(["inspect", f"--checkpoint={checkpoint}"])
    assert capsys.readouterr().out == from_file
    assert from_file.count("mean depth") == 2 and from_file.count("[SEP]") == 3


def test_what_is_too_long_is_cut_off(capsys, checkpoint):
    main(["inspect", "crow " * 100, f"--checkpoint={checkpoint}"])
    assert "cut off: the text is longer than the model's 64 positions" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_heads_of_runs(capsys, tmp_path):
    """A classifier names its class, a regression its number, a tagger the class of each piece."""
    tokenizer = tiny_tokenizer(tmp_path)
    names = {0: "unacceptable", 1: "acceptable"}
    torch.manual_seed(0)
    classifier = build(AdaptiveAlbertForSequenceClassification, id2label=names)
    run = write_run(tmp_path / "class", classifier, tokenizer).parent.parent
    main(["inspect", "bado kelu", f"--checkpoint={run}"])
    inputs = tokenizer("bado kelu", return_tensors="pt", return_token_type_ids=True)
    probabilities = classifier(**inputs).logits[0].softmax(-1)
    best = probabilities.argmax().item()
    printed = capsys.readouterr().out
    assert f"class: {names[best]} {probabilities[best].item():.1%}  {names[1 - best]} " in printed

    regression = build(AdaptiveAlbertForSequenceClassification, num_labels=1, problem_type="regression")
    run = write_run(tmp_path / "number", regression, tokenizer).parent.parent
    main(["inspect", "bado kelu", f"--checkpoint={run}"])
    assert f"score: {regression(**inputs).logits.item():.3f}" in capsys.readouterr().out

    tagger = build(AdaptiveAlbertForTokenClassification, id2label={0: "NOUN", 1: "VERB"})
    write_run(tmp_path / "tags", tagger, tokenizer)
    main(["inspect", "bado kelu", f"--checkpoint={tmp_path}/tags", f"--html={tmp_path}/tags.html"])
    tags = [("NOUN", "VERB")[tag] for tag in tagger(**inputs).logits[0].argmax(-1)]
    assert capsys.readouterr().out.splitlines()[4].split() == tags
    assert re.findall(r"<i>(\w+)</i>", (tmp_path / "tags.html").read_text()) == tags


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_run_whose_depth_is_still_held(capsys, tmp_path):
    tokenizer = tiny_tokenizer(tmp_path)
    run = write_run(tmp_path / "run", build(AdaptiveAlbertForPreTraining), tokenizer, hold_depth=True)
    main(["inspect", "bado", f"--checkpoint={run}", f"--html={tmp_path}/page.html"])
    lines = capsys.readouterr().out.splitlines()
    assert "iterates 5 times." in lines[0] and set(lines[3].split()) == {"5"}
    assert "5 iterations, a fixed depth" in (tmp_path / "page.html").read_text()


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_wordpieces_and_someone_elses_albert(capsys, tmp_path):
    write_bert(tmp_path / "bert")
    config = AlbertConfig(**SIZES | {"vocab_size": 58, "num_hidden_layers": 3})
    AlbertForMaskedLM(config).save_pretrained(tmp_path / "albert")
    AutoTokenizer.from_pretrained(tmp_path / "bert").save_pretrained(tmp_path / "albert")
    main(["inspect", "ab [MASK]", f"--checkpoint={tmp_path}/albert"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "[CLS] a·b [MASK] [SEP]" and columns(lines[2:4])[1:3] == [("a", 3), ("b", 3)]
    assert any(line.startswith("[MASK], piece 4: ") for line in lines)


BAD = {
    "no text": ([], "nothing to inspect"),
    "blank text": (["  "], "nothing to inspect"),
    "text and file": (["a", "--file=x.txt"], "not both"),
    "missing file": (["--file=no/such.txt"], "no/such.txt"),
    "not text": (["--file={tmp}/binary"], "binary, line 1: not valid UTF-8"),
    "an argument that is no text": (["caf\udce9"], "not UTF-8"),
    "missing checkpoint": (["a", "--checkpoint=no/such/folder"], "--checkpoint no/such/folder does not exist"),
    "no tokenizer": (["a", "--checkpoint={tmp}/bare"], "tokenizer"),
    "run without tokenizer": (["a", "--checkpoint={tmp}/run"], "has no tokenizer"),
    "another tokenizer": (["a", "--checkpoint={tmp}/other"], "its tokenizer has 120: it must be the model's own"),
    "missing folder": (["a", "--html={tmp}/no/page.html"], "there is no folder"),
    "not our page": (["a", "--html={tmp}/binary"], "name another file"),
    "a folder": (["a", "--html={tmp}"], "name another file"),
    "unknown option": (["a", "--chekpoint=x"], "chekpoint"),
    "new router": (
        ["a", "--checkpoint={tmp}/model", "--model.depth.halting=capacity"],
        "has no albert.encoder.halting.",
    ),
    "its unit, of ponder": (["a", "--checkpoint={tmp}/model", "--model.depth.halting=ponder"], "was trained by act"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_bad_input_gets_one_line(capsys, monkeypatch, tmp_path, name):
    (tmp_path / "binary").write_bytes(b"\xff\xfe precious")
    options, expected = BAD[name]
    if "tokenizer" in name:
        model = build(AdaptiveAlbertForPreTraining)
        model.save_pretrained(tmp_path / "bare")
        write_run(tmp_path / "run", model, tiny_tokenizer(tmp_path))
        (tmp_path / "run/tokenizer").rename(tmp_path / "elsewhere")
        write_run(tmp_path / "other", build(AdaptiveAlbertForPreTraining, vocab_size=249), tiny_tokenizer(tmp_path))
    if "model" in "".join(options):
        build(AdaptiveAlbertForPreTraining).save_pretrained(tmp_path / "model")
    monkeypatch.setattr("sys.stdin", piped(b""))
    assert expected in error_of(capsys, ["inspect", *(option.format(tmp=tmp_path) for option in options)])
    assert (tmp_path / "binary").read_bytes() == b"\xff\xfe precious"


def test_what_is_neither_here_nor_in_the_cache_says_so(monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment at the start
    said = error_of(capsys, ["inspect", "a", "--checkpoint=checkpoints/nope"])
    assert "cannot load checkpoints/nope: there is no such folder here, HF_HUB_OFFLINE is set" in said
