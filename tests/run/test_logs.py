import pytest
from torch.utils.tensorboard import SummaryWriter

from depthlab.run.directory import RunDirectory
from depthlab.run.logs import cut_logs, log_sizes, read_scalars


def test_what_was_logged_later_is_gone(tmp_path):
    run = RunDirectory(tmp_path)
    writers = [SummaryWriter(str(tmp_path)), SummaryWriter(str(tmp_path / "depth/all"))]
    for step in range(6):
        if step == 4:
            sizes = log_sizes(run)
            run.fixed_point.write_text("step\n3\n")
        for writer in writers:
            writer.add_scalar("loss", step / 2, step)
            writer.flush()
    nested = SummaryWriter(str(tmp_path / "another run"))
    nested.add_scalar("loss", 1.0, 1)
    for writer in (*writers, nested):
        writer.close()
    later = SummaryWriter(str(tmp_path), filename_suffix=".later")
    later.add_scalar("loss", 2.0, 4)
    later.close()
    cut_logs(run, run.log_files(), sizes)
    for folder in (tmp_path, tmp_path / "depth/all"):
        assert read_scalars(folder)["loss"].to_dict() == {0: 0.0, 1: 0.5, 2: 1.0, 3: 1.5}
    assert not run.fixed_point.exists() and len(list(tmp_path.glob("events.*"))) == 1
    cut_logs(run, run.log_files(), {})
    assert log_sizes(run) == {}
    assert read_scalars(tmp_path / "another run")["loss"].to_dict() == {1: 1.0}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own, when it is imported
def test_tensorboard_itself_starts():
    """Writing logs needs less of it."""
    from tensorboard.default import get_dynamic_plugins

    assert isinstance(get_dynamic_plugins(), list)
