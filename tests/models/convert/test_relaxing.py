"""What layers keep of their own beside a shared one, against BERT and NumPy's singular values."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from depthlab.commands.convert import convert
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForPreTraining
from tests.models.conftest import ragged_inputs
from tests.models.convert.conftest import BERT_SIZES, save

LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0."
OWN = "albert.encoder.relaxation.{}."
LINEAR = {  # ours and BERT's
    "attention.query": "attention.self.query",
    "attention.dense": "attention.output.dense",
    "ffn": "intermediate.dense",
    "ffn_output": "output.dense",
}
NORMS = {"attention.LayerNorm": "attention.output.LayerNorm", "full_layer_layer_norm": "output.LayerNorm"}


def whole(written, n, module, leaf):
    """What iteration n multiplies by, or adds."""
    own = OWN.format(n) + module
    difference = (
        written[f"{own}.up.weight"] @ written[f"{own}.down.weight"] if leaf == "weight" else written[f"{own}.up.bias"]
    )
    return written[f"{LAYER}{module}.{leaf}"] + difference


@pytest.mark.parametrize("tie", ["average", "last"])
def test_differences_are_the_nearest_of_their_rank(bert, source, out, tie):
    """As far from BERT's as the singular values that are left out say; biases and norms are BERT's own."""
    convert(str(source), str(out), relax=3, tie=tie)
    written, theirs = load_file(out / "model.safetensors"), bert.state_dict()
    layers = [f"bert.encoder.layer.{n}." for n in range(3)]
    for ours, name in LINEAR.items():
        untied = np.stack([theirs[f"{layer}{name}.weight"].double().numpy() for layer in layers])
        shared = untied.mean(0) if tie == "average" else untied[-1]
        for n in range(3):
            left_out = np.linalg.svd(untied[n] - shared, compute_uv=False)[3:]
            distance = np.linalg.norm(whole(written, n, ours, "weight").double().numpy() - untied[n])
            assert distance == pytest.approx(np.linalg.norm(left_out), rel=1e-4, abs=1e-5)
            bias = theirs[f"{layers[n]}{name}.bias"]
            torch.testing.assert_close(whole(written, n, ours, "bias"), bias)
            down, up = (written[f"{OWN.format(n)}{ours}.{side}.weight"] for side in ("down", "up"))
            torch.testing.assert_close(down.norm(), up.norm(), rtol=1e-4, atol=1e-5)
    for ours, name in NORMS.items():
        for leaf in ("weight", "bias"):
            for n in range(3):
                both = written[f"{LAYER}{ours}.{leaf}"] + written[f"{OWN.format(n)}{ours}.{leaf}"]
                torch.testing.assert_close(both, theirs[f"{layers[n]}{name}.{leaf}"])


@pytest.mark.parametrize(("cap", "narrow"), [(3, {}), (5, {}), (3, {"intermediate_size": 8})])
def test_full_rank_is_bert_if_only_keys_and_values_are_alike(source, out, cap, narrow):
    """Beyond BERT's layers, the last of them goes on; a feed-forward network may be narrower than the rank."""
    bert = save(BertModel(BertConfig(**BERT_SIZES | narrow, num_hidden_layers=3)), source)
    attention = [layer.attention.self for layer in bert.encoder.layer]
    for one in attention[1:]:
        for module in ("key", "value"):
            getattr(one, module).load_state_dict(getattr(attention[0], module).state_dict())
    bert.save_pretrained(source)
    convert(str(source), str(out), relax=16, halting="fixed", num_hidden_layers=cap)
    ours = AdaptiveAlbertForPreTraining.from_pretrained(out).eval()
    assert ours.config.relaxed_iterations == 3
    bert.encoder.layer.extend([bert.encoder.layer[-1]] * (cap - 3))
    inputs = ragged_inputs([9, 4, 1])
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        wanted, actual = bert.double()(**inputs), ours.albert.double()(**inputs)
    torch.testing.assert_close(actual.last_hidden_state[real], wanted.last_hidden_state[real], rtol=0, atol=1e-4)


def test_converted_once_more(bert, source, out, tmp_path):
    """Embeddings can be factorised, and differences stay; a plain ALBERT has no place for them."""
    convert(str(source), str(out), relax=4, halting="fixed")
    convert(str(out), str(tmp_path / "narrow"), embedding_size=8, halting="act")
    before, after = load_file(out / "model.safetensors"), load_file(tmp_path / "narrow" / "model.safetensors")
    own = [name for name in before if "relaxation" in name]
    assert len(own) == 3 * (4 * 3 + 2 * 2) and all(torch.equal(after[name], before[name]) for name in own)
    with pytest.raises(UserError, match=r"--as albert: ALBERT's iterations are all the same; those of .* differ"):
        convert(str(out), str(tmp_path / "albert"), **{"as": "albert"})
    with pytest.raises(UserError, match="--relax is for BERTs"):
        convert(str(out), str(tmp_path / "again"), embedding_size=8, relax=4)
