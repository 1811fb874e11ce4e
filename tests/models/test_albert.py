"""The model against Hugging Face's ALBERT, and its behaviour as a Hugging Face model."""

import json

import pytest
import torch
from transformers import AlbertConfig, AlbertForPreTraining

from depthlab.models import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertModel,
)
from tests.models.conftest import ragged_inputs

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@pytest.fixture
def albert(tmp_path, sizes):
    """A random HF ALBERT with all its heads, and its directory."""
    model = AlbertForPreTraining(AlbertConfig(**sizes, num_hidden_layers=4, initializer_range=0.2)).eval()
    model.save_pretrained(tmp_path / "albert")
    return model, tmp_path / "albert"


def labels_for(inputs):
    labels = torch.where(torch.rand(inputs["input_ids"].shape) < 0.3, inputs["input_ids"], -100)
    labels[:, 1] = inputs["input_ids"][:, 1]
    return torch.where(inputs["attention_mask"] == 1, labels, -100)


NEVER_HALTS = {"act_update": "accumulate", "act_cap": "remainder", "halting_bias_init": -30.0}


@pytest.mark.parametrize("execution", ["dense", "compact"])
@pytest.mark.parametrize("changes", [{"halting": "fixed"}, NEVER_HALTS])
def test_equals_hf_albert(albert, changes, execution):
    hf, directory = albert
    ours = AdaptiveAlbertModel.from_pretrained(directory, execution=execution, **changes).eval()
    inputs = ragged_inputs([9, 4, 1])
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        wanted, actual = hf.albert(**inputs), ours(**inputs)
    torch.testing.assert_close(actual.last_hidden_state[real], wanted.last_hidden_state[real], rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.pooler_output, wanted.pooler_output, rtol=0, atol=1e-5)
    assert (actual.depths == 4 * real).all()
    assert not actual.last_hidden_state[~real].any()


@pytest.mark.parametrize("changes", [{"halting": "fixed"}, {**NEVER_HALTS, "time_penalty": 0.0}])
def test_loss_and_gradients_equal_hf_for_pretraining(albert, changes):
    hf, directory = albert
    ours = AdaptiveAlbertForPreTraining.from_pretrained(directory, **changes).eval()
    inputs = ragged_inputs([9, 4, 3])
    labels = labels_for(inputs)
    order = torch.tensor([0, 1, 1])
    wanted, actual = (model(**inputs, labels=labels, sentence_order_label=order) for model in (hf, ours))
    torch.testing.assert_close(actual.loss, wanted.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.mlm_loss + actual.sop_loss, wanted.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.prediction_logits, wanted.prediction_logits[labels != -100], rtol=0, atol=1e-5)
    wanted.loss.backward()
    actual.loss.backward()
    ours_by_name = dict(ours.named_parameters())
    assert set(dict(hf.named_parameters())) <= set(ours_by_name)
    for name, parameter in hf.named_parameters():
        torch.testing.assert_close(ours_by_name[name].grad, parameter.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_without_labels_all_positions_are_projected(sizes):
    model = AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(**sizes, num_hidden_layers=2)).eval()
    inputs = ragged_inputs([5, 3])
    output = model(**inputs)
    assert output.prediction_logits.shape == (2, 5, 60) and output.loss is None
    only_mlm = model(**inputs, labels=labels_for(inputs))
    expected = only_mlm.mlm_loss + model.config.time_penalty * only_mlm.ponder_cost.mean()
    torch.testing.assert_close(only_mlm.loss, expected)
    nothing = model(**inputs, labels=torch.full((2, 5), -100))
    assert nothing.mlm_loss.item() == 0 and nothing.prediction_logits.shape == (0, 60)


def test_a_new_halting_unit_starts_where_the_configuration_says(albert):
    halting = AdaptiveAlbertModel.from_pretrained(albert[1], halting_bias_init=-2.5).encoder.halting
    assert halting.bias.tolist() == [-2.5] and halting.weight.shape == (1, 16)
    assert 0 < halting.weight.std() < 0.5


def test_takes_the_published_configuration_of_albert(tmp_path):
    """albert-base-v2's config.json as published carries keys that nobody reads."""
    published = {"model_type": "albert", "architectures": ["AlbertForMaskedLM"], "down_scale_factor": 1, "gap_size": 0}
    published |= {"layers_to_keep": [], "net_structure_type": 0, "num_memory_blocks": 0, "hidden_size": 768}
    published |= {"num_hidden_layers": 12, "attention_probs_dropout_prob": 0}
    (tmp_path / "config.json").write_text(json.dumps(published))
    config = AdaptiveAlbertConfig.from_pretrained(tmp_path)
    assert config.model_type == "adaptive_albert" and config.num_hidden_layers == 12 and not hasattr(config, "gap_size")


@pytest.mark.parametrize("execution", ["dense", "compact"])
@pytest.mark.parametrize("act_update", ["blend", "accumulate"])
def test_padding_changes_nothing(sizes, act_update, execution):
    sizes |= {"num_hidden_layers": 8, "initializer_range": 0.3}
    config = AdaptiveAlbertConfig(**sizes, act_update=act_update, execution=execution)
    model = AdaptiveAlbertModel(config).double().eval()
    lengths = [11, 1, 6]
    padded = ragged_inputs(lengths, extra_padding=2)
    together = model(**padded)
    for row, length in enumerate(lengths):
        alone = model(**{name: value[row : row + 1, :length] for name, value in padded.items()})
        torch.testing.assert_close(together.last_hidden_state[row, :length], alone.last_hidden_state[0])
        assert torch.equal(together.depths[row, :length], alone.depths[0])
        torch.testing.assert_close(together.remainders[row, :length], alone.remainders[0])
        torch.testing.assert_close(together.ponder_cost[row], alone.ponder_cost[0])
        assert not together.last_hidden_state[row, length:].any()
        assert not together.depths[row, length:].any() and not together.remainders[row, length:].any()
    assert together.depths.max() > together.depths[padded["attention_mask"] == 1].min(), "depths should differ here"


@pytest.mark.parametrize("halting", ["act", "fixed"])
def test_hidden_states_are_l_plus_one_and_frozen_where_halted(sizes, halting):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=6, halting=halting, initializer_range=0.3)
    model = AdaptiveAlbertModel(config).eval()
    output = model(**ragged_inputs([9, 5]), output_hidden_states=True)
    states = torch.stack(output.hidden_states)
    assert states.shape == (7, 2, 9, 16)
    assert torch.equal(states[-1], output.last_hidden_state)
    for n in range(1, 7):
        moved = (states[n] != states[n - 1]).any(-1)
        assert torch.equal(moved, output.depths >= n)


def test_classifier_has_the_ponder_cost_in_its_loss(sizes):
    inputs = ragged_inputs([5, 4])
    for num_labels, labels in ((3, torch.tensor([2, 0])), (1, torch.tensor([0.5, 2.0]))):
        config = AdaptiveAlbertConfig(**sizes, num_labels=num_labels, time_penalty=0.5)
        model = AdaptiveAlbertForSequenceClassification(config).eval()
        output = model(**inputs, labels=labels)
        loss = torch.nn.functional.mse_loss if num_labels == 1 else torch.nn.functional.cross_entropy
        task = loss(output.logits.squeeze(1) if num_labels == 1 else output.logits, labels)
        torch.testing.assert_close(output.loss, task + 0.5 * output.ponder_cost.mean())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"act_epsilon": 0.0}, "act_epsilon"),
        ({"act_epsilon": 1.5}, "act_epsilon"),
        ({"time_penalty": -1e-3}, "time_penalty"),
        ({"num_hidden_groups": 2}, "num_hidden_groups"),
        ({"inner_group_num": 2}, "inner_group_num"),
        (
            {"halting": "fixed", "num_hidden_groups": 2, "relaxation_rank": 4},
            "iterations then differ from one shared layer",
        ),
        ({"relaxation_rank": -1}, "relaxation_rank must lie between 0 and hidden_size 768, got -1"),
        ({"relaxation_rank": 769}, "relaxation_rank must lie between 0 and hidden_size 768, got 769"),
        ({"relaxation_rank": 4, "relaxed_iterations": 0}, "relaxed_iterations must be at least 1"),
        ({"halting": "sometimes"}, "halting"),
        ({"execution": "fast"}, "execution"),
        ({"hidden_size": 30}, "num_attention_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
    ],
)
def test_configuration_refuses(changes, message):
    with pytest.raises(Exception, match=message):
        AdaptiveAlbertConfig(**changes)


def test_forward_refuses(sizes):
    model = AdaptiveAlbertModel(AdaptiveAlbertConfig(**sizes))
    with pytest.raises(ValueError, match="max_position_embeddings"):
        model(input_ids=torch.ones(1, 25, dtype=torch.long))
    with pytest.raises(ValueError, match="exactly one"):
        model()
    with pytest.raises(ValueError, match="attention_mask"):
        model(input_ids=torch.ones(1, 5, dtype=torch.long), attention_mask=torch.ones(1, 1, 1, 5))
