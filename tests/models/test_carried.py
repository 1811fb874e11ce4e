"""A model carries its code: it loads where depthlab is not installed, and is the same model there."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from depthlab.models import (
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveBertConfig,
    AdaptiveBertForPreTraining,
)
from depthlab.models.carried import save_model
from tests.models.conftest import SIZES
from tests.models.exported import tiny_tokenizer
from tests.models.variants import build

ELSEWHERE = """
import sys
sys.modules["depthlab"] = None  # importing it fails
import torch, transformers
folder, auto = sys.argv[1:]
model = getattr(transformers, auto).from_pretrained(folder, trust_remote_code=True)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
output = model(**tokenizer(["bado kelu mi.", "mi"], padding=True, return_tensors="pt"))
torch.save({name: value for name, value in output.items() if torch.is_tensor(value)}, f"{folder}/output.pt")
model.save_pretrained(f"{folder}/again")
assert not [name for name in sys.modules if name.startswith("depthlab.")]
print(type(model).__module__.rpartition(".")[2])
"""


def tied():
    return build(AdaptiveAlbertForMaskedLM, relaxation_rank=2)


def untied():
    sizes = SIZES | {"vocab_size": 120, "num_hidden_layers": 3, "initializer_range": 0.3}
    return AdaptiveBertForPreTraining(AdaptiveBertConfig(**sizes)).eval()


@pytest.mark.parametrize(
    ("make", "auto", "file"),
    [
        (tied, "AutoModelForMaskedLM", "depthlab_models_heads"),
        pytest.param(untied, "AutoModelForPreTraining", "depthlab_models_untied", marks=pytest.mark.full),
    ],
)
def test_loads_without_depthlab(tmp_path, make, auto, file):
    torch.manual_seed(0)
    model, tokenizer = make(), tiny_tokenizer(tmp_path)
    folder = tmp_path / "my-model"
    save_model(model, folder)
    tokenizer.save_pretrained(folder)
    environment = os.environ | {"HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ELSEWHERE, folder, auto]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == file
    with torch.no_grad():
        expected = model(**tokenizer(["bado kelu mi.", "mi"], padding=True, return_tensors="pt"))
    for name, value in torch.load(folder / "output.pt").items():
        torch.testing.assert_close(value, expected[name], msg=name)
    assert (
        {file.name for file in folder.glob("*.py")} >= {file.name for file in (folder / "again").glob("*.py")} != set()
    )


def test_the_installed_depthlab_comes_first(tmp_path):
    save_model(build(AdaptiveAlbertForMaskedLM), tmp_path)
    for trust in (None, True):
        assert type(AutoModel.from_pretrained(tmp_path, trust_remote_code=trust)).__module__ == "depthlab.models.albert"


def test_what_is_saved_again_loads_again(tmp_path):
    save_model(build(AdaptiveAlbertForMaskedLM), tmp_path / "first")
    AutoModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    assert "auto_map" in json.loads((tmp_path / "second/config.json").read_text())
    assert AutoModel.from_pretrained(tmp_path / "second").config.halting == "act"


def test_labels_are_names(tmp_path):
    names = {0: "not_entailment", 1: "entailment"}
    save_model(build(AdaptiveAlbertForSequenceClassification, id2label=names), tmp_path)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.id2label == names
