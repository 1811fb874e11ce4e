"""The pages: their links lead somewhere, what they show is there, and every block marked as run by this file runs."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AlbertConfig, AlbertForMaskedLM

from depthlab.cli import main
from depthlab.models import AdaptiveAlbertForPreTraining
from tests.data.benchmarks.glue_fixtures import write_glue
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.variants import build
from tests.support import REPOSITORY, write_bert, write_corpus

PAGES = sorted(
    str(page.relative_to(REPOSITORY))
    for folder in (".", "experiments", "checkpoints/*", "depthlab/**")
    for page in REPOSITORY.glob(f"{folder}/*.md")
    if "runs" not in page.relative_to(REPOSITORY).parts
)
LOG = "experiments/RESULTS.md"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
MARKED = re.compile(
    r"^( *)<!-- runs: tests/test_pages\.py -->\n\1```(python|sh)\n(.*?)^\1```$(?:\n+\1```text\n(.*?)^\1```$)?",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMANDS = {"depthlab", "make"}
TOOLS = {
    "source",
    "wait",
    "exec",
    "torchrun",
    "sbatch",
    "git",
    "cd",
    "mkdir",
    "unzip",
    "zcat",
    "python",
    "for",
    "done",
    "cp",
    "cut",
    "awk",
    "paste",
    "tail",
    "/usr/bin/time",
}
"""Of others, in what the pages tell to type."""

SHORTER = [
    *("--trainer.max_steps=3", "--trainer.val_check_interval=3", "--model.fixed_depth_steps=2"),
    *("--data.vocab_size=58", "--data.max_length=32", "--data.batch_size=4", "--data.num_workers=0"),
    *("--data.validation_fraction=0.2", "--data.cache_dir=cache"),
]
"""For what the pages train: settings of a small model and a short run."""


def read(page: str) -> str:
    return (REPOSITORY / page).read_text()


def fences(page: str, language: str) -> list[str]:
    """The blocks of a page in one language, without the indentation that a list gives them."""
    found = [(indent, body) for indent, name, body in FENCE.findall(read(page)) if name == language]
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def lines(page: str) -> list[list[str]]:
    """What a page tells to type, in words."""
    typed = (line for block in fences(page, "sh") for line in block.splitlines())
    return [words for line in typed if (words := shlex.split(line.removesuffix("&"), comments=True))]


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, "experiments/tour.ipynb"])
def test_links_lead_somewhere(page):
    for target in LINK.findall(FENCE.sub("", read(page))):
        if re.match(r"\w+:", target):
            continue  # of the web
        path, _, anchor = target.partition("#")
        place = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert place.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(place), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_files_of_ours_are_there(page):
    """What stands in backticks, or after --config, and begins like a file of the project's."""
    text = read(page)
    named = re.findall(r"`((?:depthlab|experiments|tests|checkpoints|\.ci)/[\w./-]+)`", text)
    named += [word for words in lines(page) for word in words if word.startswith(("experiments/", "depthlab/"))]
    missing = [name for name in named if not name.startswith("checkpoints/") and not (REPOSITORY / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", [pytest.param(page, marks=[pytest.mark.full] * (page == LOG)) for page in PAGES])
def test_commands_are_there(page, monkeypatch, capsys, tmp_path):
    """What is to be typed is a target of the Makefile, or a command of depthlab's with settings that it has."""
    monkeypatch.chdir(REPOSITORY)
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for words in lines(page):
        words = words[next(i for i, word in enumerate(words) if "=" not in word) :]  # after variables
        tool = words[0]
        assert tool in COMMANDS | TOOLS, words
        if tool == "make":
            assert words[1] in targets, words
        elif "depthlab" in words and tool not in ("git", "/usr/bin/time"):
            command, *options = words[words.index("depthlab") + 1 :]
            if command in ("fit", "validate", "predict", "sweep") and (tmp_path / options[1]).name != "training.yaml":
                check_settings(options, command, capsys)
            else:
                says_help([command, "--help"], capsys)


def check_settings(options: list[str], command: str, capsys) -> None:
    """The real parser reads them; an axis of a sweep is a list, which a single run does not take, $x a loop's."""
    is_sweep = command == "sweep"
    pairs = zip(options[::2], options[1::2], strict=True)
    single = (
        pair for pair in pairs if not (is_sweep and pair[1].startswith("[")) and not re.fullmatch(r"\$[a-z]+", pair[1])
    )
    arguments = [word for pair in single for word in pair]
    says_help(["fit" if is_sweep else command, *arguments, "--print_config"], capsys)


def says_help(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code, capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES)
def test_settings_are_there(page, monkeypatch, capsys, tmp_path):
    """A YAML on a page is an experiment, or the part of one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    for block in fences(page, "yaml"):
        (tmp_path / "mine.yaml").write_text(block)
        first = [] if "base" in yaml.safe_load(block) else ["--config", "experiments/pretrain.yaml"]
        says_help(["fit", *first, "--config", "mine.yaml", "--print_config"], capsys)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where the pages' commands run: what they name is there, with small random models in it."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny_tokenizer(tmp_path)
    model = build(AdaptiveAlbertForPreTraining, max_position_embeddings=64)
    write_run(tmp_path / "checkpoints/runs/pretrain", model, tokenizer)
    sizes = {"vocab_size": 120, "embedding_size": 2, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 4}
    AlbertForMaskedLM(AlbertConfig(**sizes)).save_pretrained("albert/albert-base-v2")
    tokenizer.save_pretrained("albert/albert-base-v2")
    write_bert(tmp_path / "google-bert/bert-base-uncased", hidden_size=130)
    for place in ("experiments", "checkpoints/minilm-adaptive", "checkpoints/minilm-adaptive-mlm"):
        (tmp_path / place).symlink_to(REPOSITORY / place)
    (tmp_path / "my-texts").mkdir()
    write_corpus(tmp_path / "my-texts/corpus.txt")
    write_glue(tmp_path / "GLUE")
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.full] * (page == "depthlab/models/README.md"))
        for page in PAGES
        if MARKED.search(read(page))
    ],
)
@pytest.mark.filterwarnings("ignore")  # Lightning's advice to who writes a script
def test_the_page_runs(page, folder, capsys):
    """In order, in one directory; a text after a block is what the block prints."""
    blocks = MARKED.findall(read(page))
    if not any("--to my-model" in body for _, _, body, _ in blocks):
        main(["export", "--checkpoint", "checkpoints/runs/pretrain", "--to", "my-model"])
    names: dict = {}
    for indent, language, body, printed in blocks:
        body, printed = (re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for text in (body, printed))
        capsys.readouterr()
        if language == "python":
            exec(body, names)
        for line in body.splitlines() if language == "sh" else []:
            command, *arguments = shlex.split(line, comments=True)
            if command != "source":
                assert command == "depthlab"
                main([*arguments, *(SHORTER if arguments[0] == "fit" else [])])
        assert not printed or printed.strip() == capsys.readouterr().out.strip()
