"""Early exits through the command line: a loss after every iteration, then any rule for after training."""

import pytest

from depthlab.cli import main
from tests.support import fine_tuning, pretraining, printed_by, results, scalars, table, write_inputs

CAP = 4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("inputs"))


def test_a_run_that_learnt_everywhere_is_read_by_another_rule(inputs, tmp_path):
    main(fine_tuning(inputs, tmp_path / "run", model__depth__halting="every"))
    assert results(tmp_path / "run")["val/depth/all"] == CAP
    for settings, depth in (
        ({"halting": "patience", "halting_settings": '{"patience": 0}'}, 1),
        ({"halting": "patience", "halting_settings": '{"patience": 9}'}, CAP),
        ({"halting": "entropy", "halting_settings": '{"entropy_threshold": 9}'}, 1),
    ):
        depths = {f"model__depth__{name}": value for name, value in settings.items()}
        started = {"model__checkpoint": tmp_path / "run", "ckpt_path": "model"}
        printed = printed_by(fine_tuning(inputs, tmp_path / "read", "validate", **started, **depths))
        (line,) = (line for line in table(printed) if "mean depth, all tokens" in line)
        assert float(line.split("|")[2]) == depth


@pytest.mark.full
@pytest.mark.parametrize(("halting", "depths"), [("every", {5}), ("ponder", {5}), ("random", {1, 2, 3, 4, 5})])
def test_pretraining(corpus, tmp_path, halting, depths):
    """It learns; in training all tokens of a piece take the same depth."""
    main(pretraining(tmp_path / "run", corpus, model__config__halting=halting))
    losses, seen = (list(scalars(tmp_path / "run", tag).values()) for tag in ("train/loss/mlm", "train/depth/all"))
    assert sum(losses[-5:]) < sum(losses[:5])
    assert set(seen) <= depths and (halting != "random" or len(set(seen)) > 1)
