"""`make gpu-check` at toy sizes, on whatever there is."""

import pytest

from tests.benchmarks.gpu_check.__main__ import main
from tests.data.benchmarks.glue_fixtures import write_glue


def test_measurements(tmp_path, capsys):
    main(["--out", str(tmp_path), "--parts", "equality,syncs,throughput"])
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "gpu-check.md").read_text()
    assert "failed" not in printed and "differs" not in printed
    assert printed.count("| equal |") == 21 and "| training | 4 | compact |" in printed
    assert "compact, forward + backward" in (tmp_path / "profile.txt").read_text()


def test_a_part_that_fails_leaves_the_others(tmp_path, capsys):
    (tmp_path / "profile.txt").mkdir()  # so the second part can't write
    main(["--out", str(tmp_path), "--parts", "syncs,glue"])
    printed = capsys.readouterr().out
    assert "**syncs failed**" in printed and "IsADirectoryError" in printed and "no --glue FOLDER" in printed


@pytest.mark.full
@pytest.mark.usefixtures("untraced")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:The .grad attribute:UserWarning")  # torch's
def test_runs(tmp_path, capsys):
    write_glue(tmp_path / "glue")
    main(["--out", str(tmp_path), "--parts", "fit,glue,compiled", "--glue", str(tmp_path / "glue")])
    printed = capsys.readouterr().out
    assert "failed" not in printed and "Error" not in printed
    assert "(step 5), " in printed and "steps without a loss: none" in printed
    assert "3 steps, the best after 1: accuracy" in printed and "compact, compiled" in printed
