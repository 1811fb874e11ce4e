"""What Hugging Face's common tests ask of a model (`ModelTesterMixin`, which is not in the wheel), asked of ours.

Of those, these do not apply:
- generation, caches, encoder-decoder and cross attention: it is an encoder;
- flash and flex attention, and left-out layers (head pruning): not offered; `_supports_flash_attn` says so;
- tracing and `torch.export` with halting="act": how often the loop runs depends on the data, and a model says so;
- feed-forward chunks in the compact execution: its tokens are packed and computed in one piece, with equal results;
- offloading, device maps and data parallelism over several accelerators: there is none here.
In test_heads.py: tied weights, resizing, missing weights, problem types. In test_albert.py: equality with HF's ALBERT,
hidden states, batching with padding on the right.
"""

import inspect

import pytest
import torch

from depthlab.errors import UserError
from depthlab.models import (
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForTokenClassification,
)
from tests.models.variants import (
    BASE,
    LENGTHS,
    assert_equal_outputs,
    batch,
    build,
    every_head,
    every_model,
    every_way,
    hf_class,
    labels_for,
    loaded,
    name_of,
    set_checkpointing,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@every_model
def test_forward_takes_what_hugging_faces_takes(model_class):
    ours, theirs = (inspect.signature(either.forward).parameters for either in (model_class, hf_class(model_class)))
    wanted = [name for name in theirs if name != "kwargs"]
    assert list(ours)[: len(wanted)] == wanted
    output = list(build(model_class)(**batch()).keys())
    assert output[-3:] == ["depths", "remainders", "ponder_cost"], "HF's own fields keep their places"


@every_model
@every_way
def test_saves_and_loads_to_the_bit(tmp_path, model_class, way):
    model, inputs = build(model_class, **way), batch()
    model.save_pretrained(tmp_path)
    again, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not again.training
    assert_equal_outputs(again.state_dict(), model.state_dict())
    assert_equal_outputs(loaded(again)(**inputs), model(**inputs))


@every_way
@every_head
def test_gradient_checkpointing_changes_nothing(model_class, way):
    """Of either kind: `Trainer` may ask for the reentrant one, and so may PEFT."""
    inputs = batch()
    labels = labels_for(model_class, inputs)
    gradients = []
    model = build(model_class, time_penalty=0.1, **way).train()
    for kind in (None, {"use_reentrant": True}, {"use_reentrant": False}, None):
        set_checkpointing(model, kind is not None, **kind or {})
        model.zero_grad()
        torch.manual_seed(1)  # for the classifiers' dropout
        model(**inputs, **labels).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    without, *checkpointed, again = gradients
    unused = {name for name, gradient in without.items() if gradient is None}
    assert not unused, "every parameter has a gradient"
    for name, gradient in without.items():
        for with_ in checkpointed:
            torch.testing.assert_close(with_[name], gradient, rtol=1e-5, atol=1e-7, msg=name)
        assert torch.equal(again[name], gradient)


@every_way
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attentions_and_hidden_states(way, implementation):
    """The attention weights of an iteration are those of HF's formula over the states before it."""
    model = build(BASE, **way, attn_implementation=implementation)
    inputs, real = batch(), batch()["attention_mask"].bool()
    plain, watched = model(**inputs), model(**inputs, output_attentions=True, output_hidden_states=True)
    assert model.config._attn_implementation == implementation
    assert plain.attentions is None and plain.hidden_states is None
    torch.testing.assert_close(watched.last_hidden_state, plain.last_hidden_state, rtol=0, atol=1e-5)
    assert torch.equal(watched.depths, plain.depths)
    assert len(watched.hidden_states) == 6 and len(watched.attentions) == 5
    attention = model.encoder.albert_layer_groups[0].albert_layers[0].attention
    assert not any(weights.any() for weights in watched.attentions[plain.depths.max() :])
    for n, (state, weights) in enumerate(
        zip(watched.hidden_states, watched.attentions[: plain.depths.max()], strict=False)
    ):
        queries, keys = attention.query(state), attention.key(state)
        if "relaxation_rank" in way:
            own = model.encoder.relaxation[min(n, 1)]["attention"]["query"]
            queries = queries + own.up(own.down(state))
        queries, keys = (rows.unflatten(-1, (2, 8)).transpose(1, 2) for rows in (queries, keys))
        scores = queries @ keys.transpose(2, 3) / 8**0.5
        expected = scores.masked_fill(~real[:, None, None, :], float("-inf")).softmax(-1)
        rows = real[:, None, :, None].expand_as(expected)
        torch.testing.assert_close(weights[rows], expected[rows], rtol=0, atol=1e-5)
        assert not weights.masked_select(~real[:, None, None, :]).any()


@every_way
def test_sdpa_and_eager_are_equal(way):
    eager = build(BASE, **way, attn_implementation="eager")
    sdpa = build(BASE, **way, attn_implementation="sdpa")
    sdpa.load_state_dict(eager.state_dict())
    inputs = batch()
    outputs = [model(**inputs) for model in (eager, sdpa)]
    torch.testing.assert_close(*(output.last_hidden_state for output in outputs), rtol=0, atol=1e-5)
    assert torch.equal(*(output.depths for output in outputs))
    sdpa.set_attn_implementation("eager")
    assert_equal_outputs(sdpa(**inputs), outputs[0])


def test_the_configuration_can_ask_for_attentions_and_hidden_states():
    model = build(BASE, attn_implementation="eager", output_attentions=True, output_hidden_states=True)
    output = model(**batch())
    assert len(output.attentions) == 5 and len(output.hidden_states) == 6
    assert model(**batch(), output_attentions=False, output_hidden_states=False).attentions is None


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attentions_under_gradient_checkpointing(implementation):
    """With a loss on them, too."""
    model, inputs, gradients = build(BASE, attn_implementation=implementation).train(), batch(), []
    for checkpointing in (False, True):
        set_checkpointing(model, checkpointing)
        model.zero_grad()
        output = model(**inputs, output_attentions=True)
        (output.last_hidden_state.sum() + sum((weights**2).sum() for weights in output.attentions)).backward()
        assert len(output.attentions) == 5
        gradients.append([parameter.grad for parameter in model.encoder.parameters()])
    for with_, without in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(with_, without, rtol=1e-5, atol=1e-6)


@every_way
def test_padding_may_be_on_either_side(way):
    """Positions and the pooled token follow the first real token; nobody needs to hand position ids over."""
    model, right = build(BASE, **way).double(), batch()
    lengths = torch.tensor(LENGTHS)
    left = {name: torch.stack([row.roll(9 - n) for row, n in zip(value, LENGTHS)]) for name, value in right.items()}  # noqa: B905
    assert left["attention_mask"][:, -1].all() and not left["attention_mask"][1, 0]
    expected, actual = model(**right, output_hidden_states=True), model(**left, output_hidden_states=True)
    real, moved = right["attention_mask"].bool(), left["attention_mask"].bool()
    for name in ("last_hidden_state", "depths", "remainders"):
        torch.testing.assert_close(actual[name][moved], expected[name][real], msg=name)
        assert not actual[name][~moved].any()
    for ours, wanted in zip(actual.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours[moved], wanted[real])
    torch.testing.assert_close(actual.pooler_output, expected.pooler_output)
    torch.testing.assert_close(actual.ponder_cost, expected.ponder_cost)
    positions = (torch.arange(9) - (9 - lengths)[:, None]).clamp(min=0)
    assert_equal_outputs(model(**left, position_ids=positions), model(**left))


@every_model
def test_embeddings_in_place_of_ids(model_class):
    model, inputs = build(model_class), batch()
    expected = model(**inputs)
    embedded = model.get_input_embeddings()(inputs.pop("input_ids"))
    assert_equal_outputs(model(**inputs, inputs_embeds=embedded), expected)


@every_model
def test_tuples(model_class):
    model, inputs = build(model_class), batch()
    labels = {} if model_class is BASE else labels_for(model_class, inputs)
    expected = model(**inputs, **labels)
    values = model(**inputs, **labels, return_dict=False)
    model.config.return_dict = False
    again = model(**inputs, **labels)
    assert isinstance(values, tuple) and isinstance(again, tuple)
    for mine, repeated, wanted in zip(values, again, expected.to_tuple(), strict=True):
        assert torch.equal(mine, wanted) and torch.equal(repeated, wanted)


@every_model
def test_weights_start_as_the_configuration_says(model_class):
    model = build(model_class, initializer_range=0.05, hidden_size=64, intermediate_size=64, halting_bias_init=-1.0)
    for name, parameter in model.named_parameters():
        if name.endswith("halting.bias"):
            assert parameter.item() == -1
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif "LayerNorm" in name or "layer_norm" in name:
            assert (parameter == 1).all(), name
        elif parameter.numel() > 500:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.2), name


@every_way
def test_feed_forward_chunks_change_nothing(way):
    whole = build(BASE, **way)
    parts = build(BASE, **way, chunk_size_feed_forward=3)
    parts.load_state_dict(whole.state_dict())
    inputs = batch()
    torch.testing.assert_close(parts(**inputs).last_hidden_state, whole(**inputs).last_hidden_state)


@every_way
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(tmp_path, way, dtype):
    """States in half precision, halting in single; saved and loaded to the bit, and near the single-precision ones."""
    single = build(AdaptiveAlbertForMaskedLM, **way, initializer_range=0.1)
    single.save_pretrained(tmp_path / "single")
    inputs = batch()
    half = AdaptiveAlbertForMaskedLM.from_pretrained(tmp_path / "single", dtype=dtype)
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    output = half(**inputs, labels=inputs["input_ids"])
    assert output.logits.dtype == dtype and output.remainders.dtype == output.loss.dtype == torch.float32
    expected = single(**inputs)
    same = (output.depths == expected.depths) & inputs["attention_mask"].bool()
    assert same.sum() >= inputs["attention_mask"].sum() - 1
    torch.testing.assert_close(output.logits[same].float(), expected.logits[same], rtol=0, atol=0.2)
    output.loss.backward()
    half.save_pretrained(tmp_path / "half")
    again = loaded(AdaptiveAlbertForMaskedLM.from_pretrained(tmp_path / "half"))
    assert again.dtype == dtype
    assert_equal_outputs(again(**inputs), loaded(half)(**inputs))
    assert_equal_outputs(single.to(dtype)(**inputs), half(**inputs))


@pytest.mark.parametrize(
    "model_class", [AdaptiveAlbertForPreTraining, AdaptiveAlbertForTokenClassification], ids=name_of
)
@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.full), 3])
def test_exports_at_fixed_depth(model_class, rank):
    """`torch.export` with free batch size and length gives the same outputs."""
    model = build(model_class, halting="fixed", relaxation_rank=rank)
    rows, length = torch.export.Dim("rows", min=1, max=64), torch.export.Dim("length", min=2, max=24)
    inputs = batch()
    shapes = {name: {0: rows, 1: length} for name in inputs}
    exported = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
    for lengths in (LENGTHS, [3], [24, 1, 1, 12, 5]):
        inputs = batch(lengths)
        assert_equal_outputs(exported(**inputs), model(**inputs))


@pytest.mark.filterwarnings("ignore")  # tracing warns of what it can't see
@pytest.mark.parametrize("export", ["export", "trace"])
@pytest.mark.parametrize("execution", ["dense", "compact"])
def test_exporting_adaptive_depth_says_what_to_do(export, execution):
    model, inputs = build(BASE, execution=execution), batch()
    with pytest.raises(UserError, match='halting="fixed"') as caught:
        if export == "export":
            torch.export.export(model, (), inputs)
        else:
            torch.jit.trace(model, example_kwarg_inputs=inputs, strict=False)
    assert "\n" not in str(caught.value)
