"""The heads against Hugging Face's: losses, tied weights, resizing, what is missing from a checkpoint."""

import json

import pytest
import torch
import transformers
from transformers import AlbertConfig, AlbertForPreTraining

from depthlab.models import AdaptiveAlbertForPreTraining, AdaptiveAlbertForSequenceClassification
from tests.models.conftest import SIZES
from tests.models.variants import (
    BASE,
    VOCABULARY_HEADS,
    batch,
    build,
    every_head,
    every_model,
    hf_class,
    labels_for,
    name_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")


@every_head
@pytest.mark.parametrize("way", [{"halting": "fixed"}, {}], ids=name_of)
def test_heads_equal_those_of_albert(tmp_path, model_class, way):
    """With weights of HF's, loaded from an `albert` directory; at fixed depth, the losses too."""
    sizes = SIZES | {"vocab_size": 120, "num_hidden_layers": 3, "initializer_range": 0.3}
    hf = hf_class(model_class)(AlbertConfig(**sizes)).eval()
    hf.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "albert"
    ours, info = model_class.from_pretrained(tmp_path, **way, execution="dense", output_loading_info=True)
    halting = {f"albert.encoder.halting.{leaf}" for leaf in ("weight", "bias")}
    assert set(info["missing_keys"]) == (set() if way else halting) and not info["unexpected_keys"]
    if not way:
        assert ours(**batch()).depths.max() <= 3
        return
    inputs = batch()
    labels = labels_for(model_class, inputs)
    actual, expected = (model(**inputs, **labels) for model in (ours, hf))
    torch.testing.assert_close(actual.loss, expected.loss, rtol=0, atol=1e-5)
    if "logits" in expected:
        real = inputs["attention_mask"].bool() if expected.logits.ndim == 3 else slice(None)
        torch.testing.assert_close(actual.logits[real], expected.logits[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_class", VOCABULARY_HEADS, ids=name_of)
def test_the_vocabulary_projection_is_the_word_embeddings(tmp_path, model_class):
    model = build(model_class)
    torch.nn.init.normal_(model.predictions.bias)
    model.save_pretrained(tmp_path)
    for tied in (model, model_class.from_pretrained(tmp_path)):
        head = tied.predictions
        assert tied.get_output_embeddings() is head.decoder
        assert head.decoder.weight is tied.get_input_embeddings().weight
        assert head.decoder.bias is head.bias
        assert torch.equal(head.bias, model.predictions.bias)
        assert len(list(tied.parameters())) == len(tied.state_dict()) - 2


@every_model
@pytest.mark.parametrize("size", [130, 90])
def test_embeddings_resize(model_class, size):
    model = build(model_class)
    inputs = {name: value % 90 if name == "input_ids" else value for name, value in batch().items()}
    with torch.no_grad():
        before = model(**inputs)
    kept = model.get_input_embeddings().weight[:90].detach().clone()
    embeddings = model.resize_token_embeddings(size)
    assert model.get_input_embeddings() is embeddings and embeddings.weight.shape == (size, 8)
    assert model.config.vocab_size == size
    after = model(**inputs)
    assert torch.equal(embeddings.weight[:90], kept) and torch.equal(after.depths, before.depths)
    if model_class in VOCABULARY_HEADS:
        head = model.predictions
        assert head.decoder.weight is embeddings.weight and head.decoder.bias is head.bias and len(head.bias) == size
        logits = next(value for name, value in after.items() if name.endswith("logits"))
        assert logits.shape == (3, 9, size)
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        assert head.bias.grad.shape == (size,)


def test_weights_that_a_head_lacks_are_reported(tmp_path):
    """Pre-training -> classifier -> base -> pre-training: what is new is named, what is left over is another head's."""
    source = build(AdaptiveAlbertForPreTraining)
    source.save_pretrained(tmp_path / "pretrained")
    missing = {}
    steps = [AdaptiveAlbertForSequenceClassification, BASE, AdaptiveAlbertForPreTraining]
    directory = "pretrained"
    for model_class in steps:
        model, info = model_class.from_pretrained(tmp_path / directory, output_loading_info=True)
        missing[model_class], directory = set(info["missing_keys"]), model_class.__name__
        assert not info["unexpected_keys"] and not info["mismatched_keys"]
        model.save_pretrained(tmp_path / directory)
    head = {name for name in source.state_dict() if name.startswith(("predictions.", "sop_classifier."))}
    tied = {"predictions.decoder.weight", "predictions.decoder.bias"}
    assert missing[AdaptiveAlbertForSequenceClassification] == {"classifier.weight", "classifier.bias"}
    assert not missing[BASE]
    assert missing[AdaptiveAlbertForPreTraining] | tied == head
    for name, weight in source.albert.state_dict().items():
        assert torch.equal(weight, model.albert.state_dict()[name]), name
    foreign = source.state_dict() | {"albert.encoder.other.weight": torch.ones(1)}
    _, info = BASE.from_pretrained(None, config=source.config, state_dict=foreign, output_loading_info=True)
    assert set(info["unexpected_keys"]) == {"albert.encoder.other.weight"}


@pytest.mark.parametrize(
    ("problem", "num_labels", "labels"),
    [
        ("regression", 1, torch.tensor([0.5, 2.0, -1.0])),
        ("regression", 3, torch.rand(3, 3)),
        ("single_label_classification", 4, torch.tensor([0, 3, 1])),
        ("multi_label_classification", 4, torch.tensor([[0.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_problem_types_are_hugging_faces(problem, num_labels, labels, given):
    if not given and problem == "regression" and num_labels > 1:
        return  # HF's rule takes three floats for classes of which several hold
    kind = problem if given else None
    changes = {"num_labels": num_labels, "problem_type": kind, "halting": "fixed"}
    model = build(AdaptiveAlbertForSequenceClassification, **changes)
    sizes = SIZES | {"vocab_size": 120, "num_hidden_layers": 5}
    config = AlbertConfig(**sizes, num_labels=num_labels, problem_type=kind)
    hf = transformers.AlbertForSequenceClassification(config).eval()
    hf.load_state_dict(model.state_dict())
    inputs = batch()
    actual, expected = (either(**inputs, labels=labels) for either in (model, hf))
    torch.testing.assert_close(actual.loss, expected.loss, rtol=0, atol=1e-5)
    assert model.config.problem_type == hf.config.problem_type == problem


def test_mismatched_sizes_are_refused(tmp_path):
    build(AdaptiveAlbertForSequenceClassification, num_labels=3).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="size"):
        AdaptiveAlbertForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    options = {"num_labels": 5, "ignore_mismatched_sizes": True}
    model = AdaptiveAlbertForSequenceClassification.from_pretrained(tmp_path, **options)
    assert model(**batch()).logits.shape == (3, 5)


def test_albert_directories_load_by_the_adaptive_classes_only(tmp_path):
    """`AutoModel` on HF's own checkpoints stays HF's."""
    AlbertForPreTraining(AlbertConfig(**SIZES)).save_pretrained(tmp_path)
    assert type(transformers.AutoModel.from_pretrained(tmp_path)) is transformers.AlbertModel
