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
from tests.runs import REPOSITORY

BLOCKS = re.findall(
    r"<!-- runs: tests/test_readme\.py -->\n```(python|sh)\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL
)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_the_readme_runs(tmp_path, monkeypatch):
    """Its directories are there, with small random models in them."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    model = build(AdaptiveAlbertForPreTraining, max_position_embeddings=64)
    write_run(tmp_path / "checkpoints/runs/pretrain", model, tiny_tokenizer(tmp_path))
    sizes = {"vocab_size": 9, "embedding_size": 2, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 4}
    AlbertForMaskedLM(AlbertConfig(**sizes)).save_pretrained("albert/albert-base-v2")

    assert len(BLOCKS) >= 4
    names: dict = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(block, names)
            continue
        for line in block.splitlines():
            command, *arguments = shlex.split(line, comments=True)
            assert command == "depthlab"
            main(arguments)
    assert names["output"].depths.min() >= 1
    assert names["albert"].config.halting == "fixed"
