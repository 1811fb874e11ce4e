from depthlab.callbacks import BestCheckpoint


def test_first_of_equals_is_best(tmp_path):
    best = BestCheckpoint(tmp_path / "best.ckpt", tmp_path / "last.ckpt", "val/score")
    assert best.best is None and best.results() == {"epochs": []}
    best.epochs = [{"epoch": number, "step": number, "val/score": score} for number, score in enumerate((1, 3, 3, 2))]
    assert best.results() == {"steps": 1, "val/score": 3, "best_epoch": 1, "epochs": best.epochs}
