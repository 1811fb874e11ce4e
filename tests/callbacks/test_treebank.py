"""The depth of a treebank's words in a run: what TensorBoard has of it, against the table of the exported model."""

import pandas as pd
import pytest
from lightning.pytorch import LightningModule
from torch import nn

from depthlab.callbacks import TreebankDepth
from depthlab.cli import main
from depthlab.errors import UserError
from tests.data.benchmarks.glue_fixtures import write_glue
from tests.support import error_of, fine_tuning, run, scalars, tags, write_checkpoint
from tests.test_treebank_runs import command, write_treebank


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_checkpoint(folder / "checkpoint", initializer_range=0.6)
    write_glue(folder / "glue")
    write_treebank(folder)
    return folder


def fit(inputs, run_dir, **changes):
    """A run of one epoch with the callback, whose arguments are given."""
    settings = {"treebank": inputs / "made.conllu", "max_length": 48, "batch_size": 5} | changes.pop("watched", {})
    options = [f"--trainer.callbacks.init_args.{name}={value}" for name, value in settings.items()]
    arguments = fine_tuning(inputs, run_dir, trainer__max_epochs=1, **changes)
    return [*arguments, "--trainer.callbacks+=depthlab.callbacks.TreebankDepth", *options]


def assert_logs_the_table(inputs, run_dir):
    """Every label's mean is that of the table which `depthlab predict` makes of the run's model, subtypes pooled."""
    main(command(inputs, f"--dump={run_dir}/table.parquet", model__checkpoint=run_dir / "model"))
    rows = pd.read_parquet(run_dir / "table.parquet")
    expected = {
        f"depth_{field}/{label}": mean
        for field in ("upos", "deprel")
        for label, mean in rows.groupby(rows[field].str.split(":").str[0])["depth"].mean().items()
    }
    assert {tag for tag in tags(run_dir) if tag.startswith(("depth_upos/", "depth_deprel/"))} == expected.keys()
    for tag, mean in expected.items():
        assert [*scalars(run_dir, tag).values()][-1] == pytest.approx(mean, rel=1e-6), tag


def test_a_run_logs_depths_by_label(inputs, tmp_path):
    main(fit(inputs, tmp_path / "run"))
    assert_logs_the_table(inputs, tmp_path / "run")


def test_sentences_are_spread_over_the_treebank(inputs, tmp_path):
    main(fit(inputs, tmp_path / "run", watched={"sentences": 2}))
    rows = [tag for tag in tags(tmp_path / "run") if tag.startswith("depth_upos/")]
    # the first sentence ("The crows ...") and the last ("We do go")
    assert set(rows) == {f"depth_upos/{label}" for label in ("DET", "NOUN", "VERB", "ADP", "PRON", "PUNCT", "AUX")}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("treebank", "no/such.conllu", "no/such.conllu: no such file or folder"),
        ("sentences", 0, "sentences is 0"),
        ("max_length", 100, "64 position embeddings"),
    ],
)
def test_a_bad_setting_gets_one_line(inputs, tmp_path, capsys, name, value, message):
    assert message in error_of(capsys, fit(inputs, tmp_path / "run", watched={name: value}))
    assert not list((tmp_path / "run").rglob("*.yaml")), "the corrected command may run there"


def test_a_model_without_depths_is_refused(inputs):
    module = LightningModule()
    module.model = nn.Linear(1, 1)
    with pytest.raises(UserError, match=r"trainer\.callbacks for a Linear"):
        TreebankDepth(str(inputs / "made.conllu")).setup(None, module, "fit")


@pytest.mark.full
def test_two_ranks_count_every_sentence_once(inputs, tmp_path):
    run(fit(inputs, tmp_path / "run", trainer__devices=2, trainer__strategy="ddp"))
    assert_logs_the_table(inputs, tmp_path / "run")
