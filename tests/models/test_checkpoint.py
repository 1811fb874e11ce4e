"""Models from runs."""

import pytest
import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from depthlab.models import AdaptiveAlbertForPreTraining, AdaptiveAlbertForSequenceClassification
from depthlab.models.checkpoint import load_checkpoint
from depthlab.models.inputs import most_tokens
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.variants import build


@pytest.mark.parametrize(("held", "depth"), [(True, 5), (5, 5), (2, 2)])
def test_a_halting_unit_that_still_rests_is_not_taken(tmp_path, held, depth):
    """As in what the run exports: its depth is fixed where it was held, unless halting is asked for, and then the unit
    is new."""
    model = build(AdaptiveAlbertForPreTraining)
    torch.nn.init.constant_(model.albert.encoder.halting.bias, 77.0)
    write_run(tmp_path / "run", model, tiny_tokenizer(tmp_path), hold_depth=held)
    fixed = load_checkpoint(AdaptiveAlbertForSequenceClassification, str(tmp_path / "run"))
    assert (fixed.config.halting, fixed.config.num_hidden_layers) == ("fixed", depth)
    assert fixed.albert.encoder.halting is None
    adaptive = load_checkpoint(AdaptiveAlbertForSequenceClassification, str(tmp_path / "run"), {"halting": "act"})
    assert adaptive.albert.encoder.halting.bias == adaptive.config.halting_bias_init != 77
    assert adaptive.config.num_hidden_layers == 5
    layer = model.albert.encoder.albert_layer_groups[0].albert_layers[0].ffn.weight
    assert torch.equal(adaptive.albert.encoder.albert_layer_groups[0].albert_layers[0].ffn.weight, layer)


@pytest.mark.parametrize(
    ("kind", "config_class", "most"), [(BertModel, BertConfig, 20), (RobertaModel, RobertaConfig, 18)]
)
def test_the_longest_input_is_what_a_model_can_read(kind, config_class, most):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = kind(config_class(vocab_size=30, max_position_embeddings=20, pad_token_id=1, **sizes)).eval()
    assert most_tokens(model) == most
    model(torch.full((1, most), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, most + 1), 5))
