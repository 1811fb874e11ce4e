"""Adaptive depth over untied layers computes what it says; that compact equals dense: test_encoder.py."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from depthlab.errors import UserError
from depthlab.models import AdaptiveBertConfig, AdaptiveBertForMaskedLM, AdaptiveBertModel
from depthlab.models.checkpoint import load_as_saved, load_checkpoint
from depthlab.models.dial import turn_model
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.imposed import EARLY, ImposedHalting


def test_iteration_n_applies_layer_n():
    """Against Hugging Face's BERT: tokens that all halt at N mix the states of its layers 1 to N."""
    sizes = {name: SIZES[name] for name in SIZES if name != "embedding_size"}
    bert = BertModel(BertConfig(**sizes, num_hidden_layers=4, initializer_range=0.4), add_pooling_layer=False).eval()
    like_bert = {"embedding_size": 16, "num_hidden_layers": 4, "hidden_act": "gelu"}
    config = AdaptiveBertConfig(**sizes, **like_bert, act_update="accumulate")
    model = AdaptiveBertModel(config, add_pooling_layer=False).eval()
    names = {  # BERT's to ALBERT's
        **{"attention.self.": "attention.", "attention.output.": "attention.", "intermediate.dense": "ffn"},
        **{"output.dense": "ffn_output", "output.LayerNorm": "full_layer_layer_norm"},
    }
    weights = {"encoder.embedding_hidden_mapping_in.weight": torch.eye(16)}
    weights["encoder.embedding_hidden_mapping_in.bias"] = torch.zeros(16)
    for name, weight in bert.state_dict().items():
        if name.startswith("encoder.layer."):
            _, _, layer, rest = name.split(".", 3)
            old, new = next(pair for pair in names.items() if rest.startswith(pair[0]))
            name = f"encoder.albert_layer_groups.{layer}.albert_layers.0.{new}{rest.removeprefix(old)}"
        weights[name] = weight
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert all("halting" in name for name in missing)
    inputs = ragged_inputs([6, 4])
    wanted = bert(**inputs, output_hidden_states=True).hidden_states
    real = inputs["attention_mask"].bool()
    for depth in (1, 2, 4):
        rule = ImposedHalting(torch.full((2, 6), depth) * real)
        expected = EARLY * sum(wanted[1:depth]) + (1 - EARLY * (depth - 1)) * wanted[depth]
        states = model(**inputs, halting_rule=rule).last_hidden_state
        torch.testing.assert_close(states[real], expected[real], rtol=1e-4, atol=1e-5)


def test_save_and_load(tmp_path):
    config = AdaptiveBertConfig(**SIZES, num_hidden_layers=3, initializer_range=0.4)
    model = AdaptiveBertModel(config).eval()
    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).num_hidden_groups == 3
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, AdaptiveBertModel)
    inputs = ragged_inputs([6, 4])
    torch.testing.assert_close(loaded(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    again = load_checkpoint(AdaptiveBertModel, str(tmp_path), {"time_penalty": 0.1})
    assert isinstance(again.config, AdaptiveBertConfig) and again.config.time_penalty == 0.1


def test_the_cap_is_the_number_of_layers():
    with pytest.raises(StrictDataclassError, match="a layer for each of its 3 iterations"):
        AdaptiveBertConfig(**SIZES, num_hidden_layers=3, num_hidden_groups=2)


def test_its_layers_have_no_differences():
    with pytest.raises(StrictDataclassError, match="relaxation_rank is for a shared layer"):
        AdaptiveBertConfig(**SIZES, num_hidden_layers=3, relaxation_rank=4)


def test_layers_follow_the_cap(tmp_path):
    """In a configuration, and where a model is loaded with a lower cap: its first layers are there."""
    model = AdaptiveBertModel(AdaptiveBertConfig(**SIZES, num_hidden_layers=3))
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, num_hidden_layers=2)
    model.config.num_hidden_layers = 2
    assert model.config.num_hidden_groups == loaded.config.num_hidden_groups == len(loaded.encoder.albert_layer_groups)
    inputs = ragged_inputs([5, 3])
    torch.testing.assert_close(loaded.eval()(**inputs), model.eval()(**inputs))


def test_a_run_can_be_read_at_a_lower_cap_and_at_none_beyond_its_layers(tmp_path):
    model = AdaptiveBertForMaskedLM(AdaptiveBertConfig(**SIZES, num_hidden_layers=3, initializer_range=0.3)).eval()
    write_run(tmp_path / "run", model, tiny_tokenizer(tmp_path))
    shallow = load_as_saved(str(tmp_path / "run"), {"halting": "fixed", "dial": 2})
    inputs, model.config.halting = ragged_inputs([6, 4]), "fixed"
    turn_model(model, 2)
    torch.testing.assert_close(shallow(**inputs).logits, model(**inputs).logits)
    assert len(shallow.albert.encoder.albert_layer_groups) == 2
    with pytest.raises(UserError, match="leave num_hidden_layers as it is"):
        load_as_saved(str(tmp_path / "run"), {"num_hidden_layers": 7})
