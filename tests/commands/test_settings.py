"""Settings as a stranger writes them: paths, seeds, empty sections, lists that grow, what libraries refuse."""

import json
import re
from pathlib import Path

import pytest
import yaml

from depthlab.cli import main
from depthlab.commands.experiment import read_settings, without_others_settings
from tests.support import REPOSITORY, error_of, fine_tuning, pretraining, write_checkpoint, write_corpus, write_inputs

GLUE, PRETRAIN = (REPOSITORY / f"experiments/{name}.yaml" for name in ("glue", "pretrain"))
MONITOR = "depthlab.callbacks.FixedPointMonitor"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def settings_of(text, folder, *arguments):
    (folder / "mine.yaml").write_text(text)
    return read_settings(["--config", str(folder / "mine.yaml"), *arguments])


def test_a_tilde_is_home_in_every_setting(home):
    (home / "upper.yaml").write_text(f"base: {GLUE}\nrun_dir: ~/runs/${{data.task}}\n")
    text = "base: ~/upper.yaml\ndata: {root: ~/glue}\nmodel: {checkpoint: ~/model}\n"
    settings = settings_of(text, home, "--trainer.default_root_dir=~/root")
    assert settings["run_dir"] == f"{home}/runs/sst2" and settings["data"]["root"] == f"{home}/glue"
    assert (
        settings["model"]["checkpoint"] == f"{home}/model" and settings["trainer"]["default_root_dir"] == f"{home}/root"
    )
    settings = settings_of(f"base: {PRETRAIN}\ndata:\n  corpus: [~/a.txt, {{path: ~/b, weight: 2}}]\n", home)
    assert settings["data"]["corpus"] == [f"{home}/a.txt", {"path": f"{home}/b", "weight": 2}]
    assert read_settings(["--config=~/mine.yaml", "--ckpt_path=~/a.ckpt"])["ckpt_path"] == f"{home}/a.ckpt"


def test_a_tilde_is_home_in_every_command(home, capsys):
    write_checkpoint(home / "model")
    write_corpus(home / "corpus.txt")
    (home / "texts.txt").write_text("The crows.\n")
    given = ["--checkpoint=~/model", "--file=~/texts.txt"]
    main(["inspect", *given, "--to=~/depths.csv"])
    main(["inspect", *given, "--html=~/page.html"])
    main(["inspect", "~/is a text", "--checkpoint=~/model"])
    assert "~" in capsys.readouterr().out
    command = pretraining(Path("~/run"), Path("~/corpus.txt"), data__cache_dir="~/cache", trainer__max_steps=1)
    main(command)
    main(["export", "--checkpoint=~/run", "--to=~/exported"])
    main(["report", "~/run", "--to=~/report"])
    assert {"depths.csv", "page.html", "run", "cache", "exported", "report"} <= {path.name for path in home.iterdir()}
    assert not Path("~").exists()


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_seed_is_a_number(tmp_path, capsys, value):
    (tmp_path / "mine.yaml").write_text(f"base: {GLUE}\nseed_everything: {value}\n")
    for arguments in ([str(tmp_path / "mine.yaml")], [str(GLUE), f"--seed_everything={value}"]):
        assert "seed_everything is " in error_of(capsys, ["fit", "--config", *arguments])


@pytest.mark.parametrize(
    "section", ["data:", "model:", "trainer:", "checkpoint:", "model:\n  depth:", "model:\n  optimizer:"]
)
def test_an_empty_section_changes_nothing(tmp_path, section):
    expected = settings_of(f"base: {GLUE}\n", tmp_path)
    assert settings_of(f"# mine\nbase: {GLUE}\n{section}\n", tmp_path) == expected
    assert settings_of(f"base: {GLUE}\n{section} # nothing yet\nseed_everything: 3\n", tmp_path)["data"]["seed"] == 3
    (tmp_path / "none.yaml").write_text(f"{section}\n")
    assert read_settings(["--config", str(GLUE), "--config", str(tmp_path / "none.yaml")]) == expected | {"base": None}


def test_a_list_can_be_added_to(tmp_path):
    other = "trainer:\n  callbacks{}:\n    - class_path: depthlab.callbacks.DepthCollapse\n"
    for base, expected in ((PRETRAIN, [MONITOR]), (GLUE, [])):
        callbacks = settings_of(f"base: {base}\n{other.format('+')}", tmp_path)["trainer"]["callbacks"]
        assert [one["class_path"] for one in callbacks] == [*expected, "depthlab.callbacks.DepthCollapse"]
    assert len(settings_of(f"base: {PRETRAIN}\n{other.format('')}", tmp_path)["trainer"]["callbacks"]) == 1


def test_no_page_takes_callbacks_away():
    for page in REPOSITORY.glob("**/*.md"):
        if "runs" not in page.parts:
            assert not re.search(r"^ *callbacks:", page.read_text(), re.MULTILINE), page


REFUSED = {
    "trainer.accelerator": ("gpu", "trainer: No supported gpu backend"),
    "trainer.val_check_interval": (100, "trainer: `val_check_interval` (100) must be less than or equal"),
    "trainer.enable_checkpointing": ("false", "trainer.enable_checkpointing false: a run keeps its state"),
    "trainer.limit_val_batches": (-1, "trainer: You have passed invalid value -1 for limit_val_batches"),
    "trainer.strategy": ("nonsense", "trainer: You selected an invalid strategy name"),
    "trainer.devices": (-5, "trainer: `devices` selected with"),
    "trainer.max_time": ("tomorrow", "trainer: `Timer(duration='tomorrow')` is not a valid duration"),
    "trainer.check_val_every_n_epoch": (0, "trainer.check_val_every_n_epoch is 0; it must be 1 or more"),
    "trainer.accumulate_grad_batches": (0, "trainer.accumulate_grad_batches is 0; it must be 1 or more"),
    "model.optimizer.init_args.betas": ("[2, 3]", "model.optimizer: Invalid beta parameter"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_libraries_refuse_is_one_line(inputs, tmp_path, capsys, name):
    value, expected = REFUSED[name]
    assert expected in error_of(capsys, [*fine_tuning(inputs, tmp_path / "run"), f"--{name}={value}"])


NOT_OF_THEIR_KIND = {
    "fit --config own.yaml --model.depth.haltin=fixed": "model.depth.haltin is no setting: did you mean halting?",
    "fit --config bad.yaml": "model.depth.haltin is no setting: did you mean halting?",
    "inspect x --model.depth.dial high": "model.depth.dial is high; it must be a number or null",
    "fit --config own.yaml --data.metrics f1": "data.metrics is f1; it must be a list: '[f1]' or null",
    "fit --config own.yaml --data.kind number": "data.kind is number; it must be classes, numbers, tags or null",
    "fit --config own.yaml --model.optimizer.lr fast": "model.optimizer.init_args.lr is fast; it must be a number",
    "dial --config own.yaml": "the following arguments are required: --dial",
    "report treebank": "the following arguments are required: TABLES",
}


@pytest.mark.parametrize("command", NOT_OF_THEIR_KIND)
def test_a_setting_of_another_kind_is_said_in_words(tmp_path, capsys, monkeypatch, command):
    """With the help of the very command, once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(f"base: {REPOSITORY}/experiments/own.yaml\n")
    (tmp_path / "bad.yaml").write_text("base: own.yaml\nmodel: {depth: {haltin: fixed}}\n")
    name = " ".join(command.split()[: 2 if command.startswith("report") else 1])
    assert error_of(capsys, command.split()) == (
        f"depthlab: error: {NOT_OF_THEIR_KIND[command]} (see `depthlab {name} --help`)"
    )


NOT_SETTINGS = [
    "data: 5",
    "data: [1]",
    "trainer: text",
    "model: {optimizer: 3}",
    "trainer: {callbacks: [{class_path: 3}]}",
]
NOT_SETTINGS += ["run_dir: ${none}", "run_dir: '${'", "base: [a]", "a: *b", "? [1]\n: 2", "data: {batch_size: .nan}"]


@pytest.mark.parametrize("text", NOT_SETTINGS)
def test_what_are_no_settings_is_one_line(tmp_path, capsys, text):
    (tmp_path / "mine.yaml").write_text(f"{text}\n")
    error = error_of(capsys, ["fit", "--config", str(GLUE), "--config", str(tmp_path / "mine.yaml")])
    assert "Hugging Face hub" not in error  # it never came to that


def test_other_data_than_the_checkpoints_is_refused(tmp_path, capsys):
    corpora = [tmp_path / "one/corpus.txt", tmp_path / "moved/corpus.txt", tmp_path / "other/corpus.txt"]
    for corpus in corpora:
        corpus.parent.mkdir()
        write_corpus(corpus)
    corpora[2].write_text(corpora[2].read_text().replace(".", "!"))
    common = {"data__cache_dir": tmp_path / "cache", "trainer__val_check_interval": 2}

    def command(steps, corpus=corpora[0], **changes):
        return pretraining(tmp_path / "run", corpus, **common, trainer__max_steps=steps, **changes)

    main(command(1))
    last = (tmp_path / "run/checkpoints/last.ckpt").read_bytes()
    changes = {"batch_size": 16, "seed": 5, "mask_ratio": 0.3, "max_predictions": 2, "max_length": 24}
    for name, value in changes.items():
        message = error_of(capsys, command(2, **{f"data__{name}": value}, ckpt_path="last"))
        assert f"data.{name} is not that of the checkpoint to go on from" in message
    assert "data.seed is not that" in error_of(capsys, command(2, seed_everything=7, ckpt_path="last"))
    message = error_of(capsys, command(2, corpora[2], ckpt_path="last"))
    assert "data.corpus is not that" in message and "--checkpoint.other_data true" in message
    assert (tmp_path / "run/checkpoints/last.ckpt").read_bytes() == last
    main(command(2, corpora[1], ckpt_path="last"))  # where it lies does not matter
    main(command(3, corpora[2], data__batch_size=4, ckpt_path="last", checkpoint__other_data=True))
    assert json.loads((tmp_path / "run/results.json").read_text())["steps"] == 3


def test_settings_of_a_run_keep_the_cache_for_everybody(tmp_path):
    text = yaml.safe_dump(settings_of(f"base: {GLUE}\n", tmp_path))
    assert "cache_dir: ~/.cache/depthlab" in text


OF_CAPACITY = {"halting": "capacity", "halting_settings": {"capacity": 0.39}, "dial": 0.2}


@pytest.mark.parametrize(
    ("below", "above", "wanted"),
    [
        (OF_CAPACITY, ["--model.depth.halting=fixed"], ("fixed", None, None)),
        (OF_CAPACITY, ["--model.depth.halting", "capacity"], ("capacity", {"capacity": 0.39}, 0.2)),
        (OF_CAPACITY, {"halting": "patience"}, ("patience", None, None)),
        (
            OF_CAPACITY,
            ["--model.depth.halting_settings.halts=tokens", "--model.depth.halting=margin", "--model.depth.dial=0.5"],
            ("margin", {"halts": "tokens"}, 0.5),
        ),
        ({"halting_settings": {"capacity": 0.39}}, ["--model.depth.halting=fixed"], ("fixed", None, None)),
        (
            {"halting_settings": {"capacity": 0.39}},
            ["--model.depth.halting=capacity"],
            ("capacity", {"capacity": 0.39}, None),
        ),
    ],
)
def test_another_halting_rule_leaves_the_settings_of_the_one_below(tmp_path, below, above, wanted):
    """Of a file below it, or of those below the command line; where they name none, what the new one has may be its."""
    (tmp_path / "below.yaml").write_text(yaml.safe_dump({"base": str(GLUE), "model": {"depth": below}}))
    depth, arguments = (above, []) if isinstance(above, dict) else ({}, above)
    settings = settings_of(yaml.safe_dump({"base": "below.yaml", "model": {"depth": depth}}), tmp_path, *arguments)
    found = settings["model"]["depth"]
    assert tuple(found[name] for name in ("halting", "halting_settings", "dial")) == wanted


def test_a_rule_of_pre_training_too():
    """Where a file says nothing of the rule it is the default, `act`; what nobody changes stays as it was."""
    given = ["--config", str(PRETRAIN), "--model.config.halting=fixed"]
    config = read_settings(given)["model"]["config"]
    assert (config["halting"], config["halting_settings"]) == ("fixed", {})
    for rule in ("", "--model.config.halting=act"):
        assert without_others_settings([*given[:2], rule]) == [*given[:2], rule]
