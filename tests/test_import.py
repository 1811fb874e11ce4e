"""`import depthlab` costs next to nothing, and Hugging Face knows the model types whatever is imported first."""

import subprocess
import sys

import pytest

from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining, AdaptiveBertConfig, AdaptiveBertModel
from tests.models.conftest import SIZES


def run(program, *arguments):
    return subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)


def test_imports_neither_torch_nor_transformers():
    heavy = "torch", "transformers", "lightning", "numpy", "pandas", "huggingface_hub", "datasets"
    loaded = run("import sys, depthlab, depthlab.models; print(*sys.modules)").stdout.split()
    assert "depthlab" in loaded and not set(heavy) & set(loaded)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("import depthlab; from transformers import AlbertModel", marks=pytest.mark.full),
        pytest.param("from transformers import AutoConfig; import depthlab", marks=pytest.mark.full),
        "from transformers import AutoModel; import depthlab",
    ],
)
def test_hugging_face_knows_the_types(tmp_path, first):
    AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(**SIZES)).save_pretrained(tmp_path / "tied")
    AdaptiveBertModel(AdaptiveBertConfig(**SIZES, num_hidden_layers=2)).save_pretrained(tmp_path / "untied")
    program = f"""
{first}
import sys
import transformers
tied, untied = sys.argv[1:]
for kind in ("", "ForPreTraining", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification"):
    model = getattr(transformers, "AutoModel" + kind).from_pretrained(tied)
    print(type(model).__name__)
print(type(transformers.AutoConfig.for_model("adaptive_albert")).__name__)
print(type(transformers.AutoConfig.from_pretrained(untied)).__name__)
print(type(transformers.AutoModel.from_pretrained(untied)).__name__)
print(type(transformers.AutoModelForSequenceClassification.from_pretrained(untied)).__name__)
"""
    tied = ("Model", "ForPreTraining", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "Config")
    untied = ("Config", "Model", "ForSequenceClassification")
    expected = [*(f"AdaptiveAlbert{kind}" for kind in tied), *(f"AdaptiveBert{kind}" for kind in untied)]
    assert run(program, str(tmp_path / "tied"), str(tmp_path / "untied")).stdout.split() == expected
