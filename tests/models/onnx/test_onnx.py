"""The ONNX graph, run by onnxruntime, against the dense execution; and what it stores and computes."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depthlab.errors import UserError
from depthlab.models import (
    AdaptiveAlbertConfig,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
    AdaptiveBertConfig,
    AdaptiveBertModel,
)
from tests.models.conftest import SIZES, ragged_inputs
from tests.models.imposed import ImposedHalting
from tests.models.variants import BASE, build, tiny_sizes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
export = pytest.importorskip("depthlab.models.onnx.export")

ROUTE = {"halting": "route", "act_update": "accumulate"}
WAYS = {
    "fixed": {"halting": "fixed"},
    "every": {"halting": "every"},
    "random": {"halting": "random"},
    "blend": {},
    "accumulate": {"act_update": "accumulate", "act_cap": "remainder"},
    "shifted": {"halting_settings": {"act_cost": "expected", "act_shift": -0.7}},
    "route": {**ROUTE, "halting_settings": {"route_at": 2, "route_share": 0.4}},
    "route by change": {**ROUTE, "halting_settings": {"route_score": "change"}},
    "route by threshold": {**ROUTE, "halting_settings": {"route_at": 3, "route_threshold": 0.2}},
    "capacity": {"halting": "capacity", "halting_settings": {"capacity": 0.6}},
    "capacity, accumulate": {"halting": "capacity", "act_update": "accumulate", "halting_settings": {"capacity": 0.3}},
    "capacity by change": {"halting": "capacity", "halting_settings": {"capacity_score": "change"}},
}
KINDS = ["tied", "relaxed", "untied"]


def made(kind, way, **changes):
    """A model whose iterations differ by kind, halting in this way, which tells tokens apart."""
    changes = {**WAYS[way], **changes}
    if kind == "untied":
        return spread(AdaptiveBertModel(AdaptiveBertConfig(**tiny_sizes(**changes))).eval())
    relaxed = {"relaxation_rank": 3, "relaxed_iterations": 3} if kind == "relaxed" else {}
    return spread(build(BASE, **changes, **relaxed))


def spread(model):
    """The model, whose router or halting unit tells tokens apart."""
    if model.base_model.encoder.halting is not None:
        for parameter in model.base_model.encoder.halting.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def session_of(graph, **options):
    onnx.checker.check_model(graph, full_check=True)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    for name, value in options.items():
        setattr(settings, name, value)
    return onnxruntime.InferenceSession(graph.SerializeToString(), settings, ["CPUExecutionProvider"])


def run(graph, inputs):
    session = session_of(graph)
    found = session.run(None, {name: ids.numpy() for name, ids in inputs.items()})
    return {output.name: torch.from_numpy(value) for output, value in zip(session.get_outputs(), found, strict=True)}


@torch.no_grad()
def dense(model, inputs):
    model = copy.deepcopy(model)
    model.config.execution = "dense"
    return model(**inputs)


@settings(max_examples=50)
@given(
    kind=st.sampled_from(KINDS),
    way=st.sampled_from([*WAYS]),
    act=st.sampled_from(["gelu", "gelu_new", "relu"]),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    extra_padding=st.integers(0, 2),
    cap=st.integers(4, 7),
    seed=st.integers(0, 2**16),
)
def test_equals_dense(kind, way, act, lengths, extra_padding, cap, seed):
    torch.manual_seed(seed)
    model = made(kind, way, hidden_act=act, num_hidden_layers=cap)
    inputs = ragged_inputs(lengths, vocab_size=120, extra_padding=extra_padding)
    wanted, found = dense(model, inputs), run(export.to_onnx(model), inputs)
    assert torch.equal(found["depths"], wanted.depths)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_one_graph_takes_any_batch(kind, way):
    """Other sizes, padding on the left, and nothing but padding."""
    model = made(kind, way)
    graph = export.to_onnx(model)
    left = {name: ids.flip(1) for name, ids in ragged_inputs([5, 2, 7], vocab_size=120).items()}
    nothing = {name: torch.zeros_like(ids) for name, ids in left.items()}
    for inputs in (ragged_inputs([1]), left, nothing):
        wanted, found = dense(model, inputs), run(graph, inputs)
        assert torch.equal(found["depths"], wanted.depths)
        torch.testing.assert_close(found["last_hidden_state"], wanted.last_hidden_state, rtol=1e-4, atol=1e-4)
        if inputs is not nothing:
            torch.testing.assert_close(found["pooler_output"], wanted.pooler_output, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model_class", [AdaptiveAlbertForSequenceClassification, AdaptiveAlbertForTokenClassification])
def test_classifiers_give_logits(model_class):
    model, inputs = build(model_class, num_labels=3), ragged_inputs([9, 4], vocab_size=120)
    wanted, found = dense(model, inputs).logits, run(export.to_onnx(model), inputs)["logits"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_every_weight_is_stored_once(kind, way, dtype):
    """And no more of them are there for more iterations of a shared layer."""
    model = made(kind, way)
    graph = export.to_onnx(model, dtype)
    wide = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    narrow = sum(parameter.numel() for parameter in model.parameters()) - wide
    matrices = [value for value in graph.graph.initializer if len(value.dims) > 1]
    found = sum(np.prod(value.dims) for value in matrices if not value.name.endswith((".scale", ".sums")))
    assert found == wide
    stored = sum(len(value.raw_data) for value in graph.graph.initializer)
    scales = 2 * sum(sum(p.shape[:1]) for p in model.parameters() if p.ndim > 1) * (dtype == "int8")  # and sums
    assert stored < (wide if dtype == "int8" else 4 * wide) + 4 * (narrow + scales) + 4 * SIZES["hidden_size"] * 2 + 400
    if kind == "tied":
        assert abs(export.to_onnx(made(kind, way, num_hidden_layers=40), dtype).ByteSize() - graph.ByteSize()) < 300


@pytest.mark.parametrize("way", ["accumulate", "capacity", "route"])
@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_halted_tokens_leave_the_computation(tmp_path, kind, way):
    """Rows that go through the feed-forward network, as onnxruntime has counted them, are the token-iterations."""
    model, inputs = made(kind, way), ragged_inputs([9, 4, 7], vocab_size=120)
    session = session_of(export.to_onnx(model), enable_profiling=True, profile_file_prefix=str(tmp_path / "profile"))
    (depths,) = session.run(["depths"], {name: ids.numpy() for name, ids in inputs.items()})
    events = json.loads(Path(session.end_profiling()).read_text())
    products = (event["args"] for event in events if "Gemm" in event.get("args", {}).get("op_name", ""))
    shapes = [shape for product in products for kind in product["output_type_shape"] for shape in kind.values()]
    rows = [rows for rows, width in shapes if width == SIZES["intermediate_size"]]
    assert sum(rows) == depths.sum() < 5 * inputs["attention_mask"].sum()


def with_rounded_weights(model):
    """Each weight once, to one of 255 values of its row."""
    rounded = copy.deepcopy(model)
    for name, parameter in rounded.named_parameters():
        if parameter.ndim > 1 and "halting" not in name:
            scale = parameter.data.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) / 127
            parameter.data = (parameter.data / scale).round() * scale
    return rounded


@pytest.mark.parametrize("way", ["fixed", "accumulate"])
@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_as_good_as_its_weights(kind, way):
    """A model with the rounded weights differs from it by what goes in."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8, "initializer_range": 0.1}
    model = made(kind, way, **sizes)
    inputs = ragged_inputs([20, 12], vocab_size=120)
    wanted, near = (dense(one, inputs).last_hidden_state for one in (model, with_rounded_weights(model)))
    found = run(export.to_onnx(model, "int8"), inputs)["last_hidden_state"]
    similar = torch.cosine_similarity(found, wanted, dim=-1)[inputs["attention_mask"] > 0]
    assert similar.min() > 0.99
    assert (found - near).abs().max() < 0.1 * wanted.abs().max()
    assert not torch.equal(found, near)


@pytest.mark.parametrize("way", ["fixed", "accumulate"])
@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_rounding_and_nothing_else(kind, way):
    """The dense execution with the rounded weights, and each token rounded before it meets one, is the same."""
    torch.manual_seed(0)
    model = made(kind, way, hidden_size=64, intermediate_size=128, num_hidden_layers=4, initializer_range=0.1)
    rounded = with_rounded_weights(model)
    for name, module in rounded.named_modules():
        if isinstance(module, torch.nn.Linear) and "halting" not in name:
            module.register_forward_pre_hook(lambda module, given: (of_256_values(given[0]),))
    inputs = ragged_inputs([3, 4] * 10, vocab_size=120)
    exact, wanted = (dense(one, inputs).last_hidden_state for one in (model, rounded))
    found = run(export.to_onnx(model, "int8"), inputs)["last_hidden_state"]
    off, lost, size = (states.flatten(1).norm(dim=1) for states in (found - wanted, wanted - exact, exact))
    assert lost.median() < 0.05 * size.median()
    # Where a value lies near a half it may go either way, and what follows differs: in few of these texts.
    assert (off < 0.01 * lost).float().mean() > 0.7


def of_256_values(rows):
    """Each row, by values as far from each other, from its least to its most."""
    least, most = rows.aminmax(dim=-1, keepdim=True)
    step = (most - least).clamp(min=1e-30) / 255
    return ((rows - least) / step).round() * step + least


@pytest.mark.parametrize("kind", KINDS)
def test_int8_of_a_text_does_not_depend_on_its_batch(kind):
    """Whatever outliers the others have: rows are rounded by themselves."""
    model = made(kind, "accumulate")
    model.embeddings.word_embeddings.weight.data[7] *= 50
    graph = export.to_onnx(model, "int8")
    alone = {"input_ids": torch.tensor([[11, 12, 13, 14]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    alone["token_type_ids"] = torch.zeros_like(alone["input_ids"])
    both = {name: ids.repeat(2, 1) for name, ids in alone.items()}
    both["input_ids"][1] = 7
    found, wanted = run(graph, both), run(graph, alone)
    assert torch.equal(found["depths"][0], wanted["depths"][0])
    torch.testing.assert_close(found["last_hidden_state"][0], wanted["last_hidden_state"][0], rtol=1e-4, atol=1e-4)


def test_what_has_no_form(monkeypatch):
    with pytest.raises(UserError, match="one layer an iteration"):
        export.to_onnx(build(BASE, halting="fixed", inner_group_num=2))
    for setting in ({"route_at": 0}, {"route_depths": [3, 5]}, {"route_score": "rarity"}):
        with pytest.raises(UserError, match="for one decision, after iteration 1 or later"):
            export.to_onnx(build(BASE, **ROUTE, halting_settings=setting))
    with pytest.raises(UserError, match="'capacity' has a form in ONNX by state"):
        export.to_onnx(build(BASE, halting="capacity", halting_settings={"capacity_score": "both"}))
    with pytest.raises(UserError, match="hidden_act 'silu' has no form"):
        export.to_onnx(build(BASE, hidden_act="silu"))
    model = build(BASE)
    monkeypatch.setattr(AdaptiveAlbertConfig, "rule", ImposedHalting(torch.ones(1, 1)))
    with pytest.raises(UserError, match="act, capacity, route and fixed have"):
        export.to_onnx(model)
