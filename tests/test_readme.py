"""What the README shows, runs: every block under `<!-- runs: tests/test_readme.py -->`, in order, in one directory."""

import re
import shlex

import pytest
import torch
from transformers import AlbertConfig, AlbertForMaskedLM

from depthlab.cli import main
from depthlab.models import AdaptiveAlbertForPreTraining
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.variants import build
from tests.support import REPOSITORY, write_bert, write_corpus

BLOCKS = re.findall(
    r"<!-- runs: tests/test_readme\.py -->\n```(python|sh)\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL
)

SHORTER = [
    *("--trainer.max_steps=3", "--trainer.val_check_interval=3", "--model.fixed_depth_steps=2"),
    *("--data.vocab_size=58", "--data.max_length=32", "--data.batch_size=4", "--data.num_workers=0"),
    *("--data.validation_fraction=0.2", "--data.cache_dir=cache"),
]
"""For what the README trains: settings of a small model and a short run."""


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_the_readme_runs(tmp_path, monkeypatch):
    """Its directories are there, with small random models in them."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    model = build(AdaptiveAlbertForPreTraining, max_position_embeddings=64)
    write_run(tmp_path / "checkpoints/runs/pretrain", model, tiny_tokenizer(tmp_path))
    sizes = {"vocab_size": 120, "embedding_size": 2, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 4}
    AlbertForMaskedLM(AlbertConfig(**sizes)).save_pretrained("albert/albert-base-v2")
    tiny_tokenizer(tmp_path).save_pretrained("albert/albert-base-v2")
    write_bert(tmp_path / "google-bert/bert-base-uncased", hidden_size=130)
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    (tmp_path / "my-texts").mkdir()
    write_corpus(tmp_path / "my-texts/corpus.txt")

    assert len(BLOCKS) >= 6
    names: dict = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(block, names)
            continue
        for line in block.splitlines():
            command, *arguments = shlex.split(line, comments=True)
            assert command == "depthlab"
            main([*arguments, *(SHORTER if arguments[0] == "fit" else [])])
    assert names["output"].depths.min() >= 1
    assert names["albert"].config.halting == "fixed"
