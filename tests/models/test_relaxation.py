"""Relaxed tying computes what it says; that compact equals dense, costs, and Hugging Face: in the tests of these."""

import pytest
import torch
from transformers import AutoModel, pipeline
from transformers.models.albert.modeling_albert import AlbertLayer

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertForPreTraining, AdaptiveAlbertModel
from depthlab.models.checkpoint import load_checkpoint, model_of, read_run
from depthlab.optim import parameter_groups
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.variants import BASE, batch, build, set_checkpointing

LAYER = "albert_layer_groups.0.albert_layers.0."
LINEAR = ("attention.query", "attention.dense", "ffn", "ffn_output")
NORMS = ("attention.LayerNorm", "full_layer_layer_norm")
TRAINED = 3
CAP = 5


def whole_layers(model) -> list[AlbertLayer]:
    """Hugging Face's layer for each iteration, with the matrices written out."""
    weights = model.encoder.state_dict()
    layers = []
    for n in range(CAP):
        layer = AlbertLayer(model.config).double().eval()
        state = {name.removeprefix(LAYER): weights[name].clone() for name in weights if name.startswith(LAYER)}
        own = f"relaxation.{min(n, TRAINED - 1)}."
        for module in LINEAR:
            state[f"{module}.weight"] += weights[f"{own}{module}.up.weight"] @ weights[f"{own}{module}.down.weight"]
            state[f"{module}.bias"] += weights[f"{own}{module}.up.bias"]
        for module in NORMS:
            for leaf in ("weight", "bias"):
                state[f"{module}.{leaf}"] += weights[f"{own}{module}.{leaf}"]
        layer.load_state_dict(state)
        layers.append(layer)
    return layers


@torch.no_grad()
def test_iteration_n_differs_by_its_own_and_later_ones_by_the_last():
    model = build(BASE, halting="fixed", relaxation_rank=3, relaxed_iterations=TRAINED, num_hidden_layers=CAP).double()
    inputs = batch()
    states = model(**inputs, output_hidden_states=True).hidden_states
    real = inputs["attention_mask"].bool()
    mask = torch.where(real, 0.0, float("-inf")).double()[:, None, None]
    for n, layer in enumerate(whole_layers(model)):
        wanted = layer(states[n], mask)
        torch.testing.assert_close(states[n + 1][real], wanted[real], rtol=0, atol=1e-10)


@pytest.mark.parametrize("halting", ["act", "fixed"])
def test_a_checkpoint_of_one_layer_starts_as_it_was(tmp_path, halting):
    tied, inputs = build(AdaptiveAlbertForPreTraining, halting=halting), batch()
    tied.save_pretrained(tmp_path)
    wanted = tied(**inputs)
    relaxed = AdaptiveAlbertForPreTraining.from_pretrained(tmp_path, relaxation_rank=4, num_hidden_layers=6)
    assert len(relaxed.albert.encoder.relaxation) == 6
    relaxed = load_checkpoint(AdaptiveAlbertForPreTraining, str(tmp_path), {"relaxation_rank": 4}).eval()
    assert len(relaxed.albert.encoder.relaxation) == relaxed.config.relaxed_iterations == 5
    torch.testing.assert_close(relaxed(**inputs).prediction_logits, wanted.prediction_logits)
    labels = inputs["input_ids"]
    relaxed(**inputs, labels=labels).loss.backward()
    first = relaxed.albert.encoder.relaxation[0].ffn
    assert first.up.weight.grad.any() and not first.down.weight.grad.any(), "B learns first, then A"
    assert first.down.weight.std() > 0


def test_the_cap_can_be_raised_and_the_rank_cannot_change(tmp_path):
    build(AdaptiveAlbertForPreTraining, relaxation_rank=3, num_hidden_layers=4).save_pretrained(tmp_path)
    deeper = AutoModel.from_pretrained(tmp_path, num_hidden_layers=9, halting="fixed")
    assert isinstance(deeper, AdaptiveAlbertModel) and len(deeper.encoder.relaxation) == 4
    inputs = batch()
    assert deeper(**inputs).depths.max() == 9
    deeper = load_checkpoint(AdaptiveAlbertForPreTraining, str(tmp_path), {"num_hidden_layers": 9})
    assert len(deeper.albert.encoder.relaxation) == 4
    for rank in (0, 8):
        with pytest.raises(UserError, match="relaxation_rank is 3 in the checkpoint and can't be changed"):
            load_checkpoint(AdaptiveAlbertForPreTraining, str(tmp_path), {"relaxation_rank": rank})


def test_a_run_keeps_its_differences(tmp_path):
    model = build(AdaptiveAlbertForPreTraining, relaxation_rank=3)
    last = write_run(tmp_path / "run", model, tiny_tokenizer(tmp_path))
    again, inputs = model_of(read_run(last)).eval(), batch()
    assert torch.equal(again(**inputs).prediction_logits, model(**inputs).prediction_logits)


def test_a_pipeline_takes_it(tmp_path):
    model, tokenizer = build(AdaptiveAlbertForPreTraining, relaxation_rank=3), tiny_tokenizer(tmp_path)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    text = "bado [MASK] mi."
    guesses = pipeline("fill-mask", model=str(tmp_path))(text)
    inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=True)
    logits = model(**inputs).prediction_logits[inputs["input_ids"] == tokenizer.mask_token_id]
    assert [guess["token"] for guess in guesses] == logits[0].topk(5).indices.tolist()


def test_biases_and_norms_of_its_own_do_not_decay():
    model = build(BASE, relaxation_rank=3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    *_, excluded = parameter_groups(model)
    own = {name for name in names.values() if "relaxation" in name}
    spared = {names[parameter] for parameter in excluded["params"]} & own
    assert spared == {name for name in own if not name.endswith((".up.weight", ".down.weight"))}


def test_autocast_and_gradient_checkpointing_reach_the_differences():
    model, inputs = build(BASE, relaxation_rank=3, relaxed_iterations=1).train(), batch()
    exact = model(**inputs).last_hidden_state
    set_checkpointing(model, True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(**inputs).last_hidden_state
    assert rounded.dtype == torch.float32
    rounded.sum().backward()
    assert all(parameter.grad is not None for parameter in model.encoder.relaxation.parameters())
    assert (rounded - exact).abs().median() < 0.05
