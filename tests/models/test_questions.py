"""Heads for questions against Hugging Face's, tied and untied; losses of empty batches and without labels."""

import logging

import pytest
import torch
import transformers
from transformers import AlbertConfig, AutoModelForMultipleChoice, AutoModelForQuestionAnswering, Trainer
from transformers import TrainingArguments as Arguments

import depthlab.models
from depthlab.models import AdaptiveAlbertForMultipleChoice, AdaptiveAlbertForQuestionAnswering, AdaptiveBertConfig
from depthlab.tasks.base import Task
from tests.models.conftest import SIZES
from tests.models.variants import HEADS, batch, build, every_way, hf_class, labels_for, loaded, name_of

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*use_cpu.*:FutureWarning")

QUESTIONS = [AdaptiveAlbertForQuestionAnswering, AdaptiveAlbertForMultipleChoice]
every_question = pytest.mark.parametrize("model_class", QUESTIONS, ids=name_of)


def inputs_for(model_class):
    """With labels: two questions."""
    if model_class is AdaptiveAlbertForQuestionAnswering:
        positions = {"start_positions": torch.tensor([1, 3, 99]), "end_positions": torch.tensor([2, 3, -1])}
        return batch() | positions
    answers = {name: value.unflatten(0, (2, 3)) for name, value in batch([9, 4, 7, 5, 2, 9]).items()}
    return answers | {"labels": torch.tensor([2, 0])}


@every_question
def test_equals_alberts(model_class, tmp_path):
    """With its weights, at fixed depth: loss, logits and every gradient."""
    sizes = SIZES | {"vocab_size": 120, "num_hidden_layers": 3, "initializer_range": 0.3}
    hf = hf_class(model_class)(AlbertConfig(**sizes)).eval()
    hf.save_pretrained(tmp_path)
    ours, info = model_class.from_pretrained(tmp_path, halting="fixed", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    inputs = inputs_for(model_class)
    inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])  # HF's finds answers in padding, too
    expected, actual = hf(**inputs), loaded(ours)(**inputs)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], msg=name)
    expected.loss.backward()
    actual.loss.backward()
    for (name, parameter), twin in zip(hf.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(twin.grad, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


@every_way
def test_no_answer_is_in_the_padding(way):
    model, inputs = build(AdaptiveAlbertForQuestionAnswering, **way), inputs_for(AdaptiveAlbertForQuestionAnswering)
    longer = {name: torch.nn.functional.pad(value, (0, 5 * (value.ndim > 1))) for name, value in inputs.items()}
    inputs["start_positions"][0] = longer["start_positions"][0] = 1
    torch.testing.assert_close(model(**longer).loss, model(**inputs).loss)


@every_way
@every_question
def test_the_ponder_cost_is_in_the_loss(model_class, way):
    inputs = inputs_for(model_class)
    free, dear = (build(model_class, time_penalty=price, **way) for price in (0.0, 0.5))
    dear.load_state_dict(free.state_dict())
    without, with_ = free(**inputs), dear(**inputs)
    price = 0 if way.get("halting") == "fixed" else 0.5 * with_.ponder_cost.mean()
    torch.testing.assert_close(with_.loss, without.loss + price)
    assert len(with_.depths) == (3 if model_class is AdaptiveAlbertForQuestionAnswering else 6)


@pytest.mark.parametrize("head", ["MaskedLM", "TokenClassification", "QuestionAnswering", "MultipleChoice"])
def test_heads_of_untied_models(tmp_path, head):
    """By the auto classes, saved and loaded."""
    model_class = getattr(depthlab.models, f"AdaptiveBertFor{head}")
    sizes = SIZES | {"vocab_size": 120, "num_hidden_layers": 3}
    model = model_class(AdaptiveBertConfig(**sizes, initializer_range=0.3)).eval()
    model.save_pretrained(tmp_path)
    again = getattr(transformers, f"AutoModelFor{head}").from_pretrained(tmp_path)
    assert type(again) is model_class and len(again.albert.encoder.albert_layer_groups) == 3
    inputs = batch() if head != "MultipleChoice" else {name: value[None] for name, value in batch().items()}
    for name, value in model(**inputs).items():
        torch.testing.assert_close(loaded(again)(**inputs)[name], value)


@every_question
def test_trainer_trains_and_evaluates(tmp_path, model_class):
    auto = AutoModelForQuestionAnswering
    auto = AutoModelForMultipleChoice if model_class is AdaptiveAlbertForMultipleChoice else auto
    build(model_class).save_pretrained(tmp_path / "model")
    model, inputs = auto.from_pretrained(tmp_path / "model"), inputs_for(model_class)
    rows = [{name: value[row] for name, value in inputs.items()} for row in range(len(inputs["input_ids"]))]
    settings = {"max_steps": 2, "use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    trainer = Trainer(model, Arguments(str(tmp_path), **settings), train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    answers = trainer.predict(rows).predictions
    assert [one.shape for one in answers] == [(3, 9)] * 2 if isinstance(answers, tuple) else answers.shape == (2, 3)


@every_way
@pytest.mark.parametrize("model_class", [*HEADS, *QUESTIONS], ids=name_of)
def test_empty_batches(model_class, way):
    """A rank may get nothing: the loss is 0, and every parameter has a gradient of 0."""
    model = build(model_class, **way).train()
    if model_class in QUESTIONS:
        inputs = {name: value[:0] for name, value in inputs_for(model_class).items()}
    else:
        full = batch()
        inputs = {name: value[:0] for name, value in (full | labels_for(model_class, full)).items()}
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.loss.backward()
    assert output.loss == 0 and output.depths.shape == (0, 9) and output.hidden_states[-1].shape == (0, 9, 16)
    plain = model(**{name: inputs[name] for name in ("input_ids", "attention_mask")})
    assert plain.ponder_cost.shape == (0,)


def test_training_without_labels_is_told(tmp_path, caplog):
    """As `label_smoothing_factor` does it: Trainer keeps the labels to itself, and the time penalty would be lost."""
    logging.Logger.warning_once.cache_clear()
    model, inputs = build(HEADS[2]), batch()
    model(**inputs)
    model.train()(**inputs, labels=torch.tensor([0, 1, 0]))
    with torch.no_grad():
        model(**inputs)
    build(HEADS[2], halting="fixed").train()(**inputs)
    build(HEADS[2], time_penalty=0.0).train()(**inputs)
    charged = build(HEADS[2])
    Task(charged, torch.optim.AdamW, 0).train()
    charged(**inputs)
    assert "time penalty" not in caplog.text
    rows = [{name: value[row] for name, value in inputs.items()} | {"labels": row % 2} for row in range(3)]
    settings = {"max_steps": 2, "use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    Trainer(model, Arguments(str(tmp_path), **settings, label_smoothing_factor=0.1), train_dataset=rows).train()
    assert caplog.text.count("the time penalty is not in it") == 1
