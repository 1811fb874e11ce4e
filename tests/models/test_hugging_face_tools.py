"""Hugging Face's own tools take our models: auto classes, pipelines, Trainer."""

import logging

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

from depthlab.models import AdaptiveAlbertForPreTraining
from tests.models.exported import tiny_tokenizer
from tests.models.variants import CHECKPOINTING, tiny_config

KINDS = ("Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification", "ForTokenClassification")
AUTO = {f"AdaptiveAlbert{kind}": getattr(transformers, f"AutoModel{kind.removeprefix('Model')}") for kind in KINDS}
SENTENCES = ["bado kelu mi.", "mi", "kelu kelu bado mi bado mi mi.", "bado.", "mi kelu.", "kelu mi bado bado"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*use_cpu.*:FutureWarning"),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A pre-trained model with its tokenizer."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models")
    AdaptiveAlbertForPreTraining(tiny_config(execution="compact")).save_pretrained(path / "model")
    tiny_tokenizer(path).save_pretrained(path / "model")
    return path / "model"


@pytest.fixture
def warned():
    """What transformers warns of."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


@pytest.mark.parametrize("name", AUTO)
def test_auto_classes(directory, name):
    model = AUTO[name].from_pretrained(directory, execution="dense")
    assert type(model).__name__ == name and model.config.execution == "dense"
    tokenizer = AutoTokenizer.from_pretrained(directory)
    output = model(**tokenizer(SENTENCES, return_tensors="pt", padding=True))
    assert output.depths.max() > output.depths[output.depths > 0].min() >= 1


@pytest.mark.parametrize("task", ["fill-mask", "text-classification", "token-classification", "feature-extraction"])
@pytest.mark.parametrize("batch_size", [None, 3])
def test_pipelines(directory, warned, task, batch_size):
    text = pipeline(task, model=str(directory))
    tokenizer = text.tokenizer
    sentences = [sentence.replace("kelu", tokenizer.mask_token, 1) for sentence in SENTENCES if "kelu" in sentence]
    results = text(sentences, batch_size=batch_size)
    assert len(results) == len(sentences)
    lengths = [len(tokenizer(sentence)["input_ids"]) for sentence in sentences]
    if task == "fill-mask":
        model = AutoModelForMaskedLM.from_pretrained(directory)
        inputs = tokenizer(sentences[0], return_tensors="pt")
        logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
        assert [guess["token"] for guess in results[0]] == logits[0].topk(5).indices.tolist()
        assert sentences[0].count("[MASK]") == 1 and results[0][0]["token_str"]
    elif task == "text-classification":
        assert {result["label"] for result in results} <= {"LABEL_0", "LABEL_1"}
    elif task == "token-classification":
        assert [len(result) for result in results] == [length - 2 for length in lengths], "[CLS] and [SEP] are left out"
    else:
        alone = [text(sentence) for sentence in sentences]
        for result, states, length in zip(results, alone, lengths, strict=True):
            assert np.shape(states) == (1, length, 16)
            np.testing.assert_allclose(np.array(result)[:, :length], states, atol=1e-5)
    assert all("LOAD REPORT" in message for message in warned), "nothing but new heads is reported"


def train(model, rows, collator, directory, **changes):
    """Three steps and an evaluation; the metrics, and what they were computed from."""
    seen = {}

    def compute_metrics(prediction):
        seen["logits"], seen["labels"] = prediction.predictions, prediction.label_ids
        return {}

    settings = {
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "learning_rate": 0.01,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "label_names": ["labels"],  # the pre-training head takes others, too, and Trainer would miss them
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(directory), **settings | changes),
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=collator,
        compute_metrics=compute_metrics,
    )
    trainer.train()
    return trainer, trainer.evaluate(), seen


@pytest.mark.parametrize("name", [name for name in AUTO if name != "AdaptiveAlbertModel"])
def test_trainer_trains_and_evaluates(directory, tmp_path, name):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows = [dict(tokenizer(sentence)) for sentence in SENTENCES]
    longest = max(len(row["input_ids"]) for row in rows)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.5, seed=0)
    if name == "AdaptiveAlbertForSequenceClassification":
        rows = [row | {"label": index % 2} for index, row in enumerate(rows)]
        collator = DataCollatorWithPadding(tokenizer)
    elif name == "AdaptiveAlbertForTokenClassification":
        rows = [row | {"labels": [index % 2 for index in row["input_ids"]]} for row in rows]
        collator = DataCollatorForTokenClassification(tokenizer)
    model = AUTO[name].from_pretrained(directory)
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    trainer, metrics, seen = train(model, rows, collator, tmp_path)
    assert any(not torch.equal(weight, before[key]) for key, weight in trainer.model.state_dict().items())
    assert np.isfinite(metrics["eval_loss"])
    if name == "AdaptiveAlbertForPreTraining":
        order, states = seen["logits"]
        assert order.shape == (6, 2) and states.shape == (6, longest, 16)
        return
    expected = {
        "AdaptiveAlbertForMaskedLM": (6, longest, 120),
        "AdaptiveAlbertForSequenceClassification": (6, 2),
        "AdaptiveAlbertForTokenClassification": (6, longest, 2),
    }[name]
    assert seen["logits"].shape == expected, "only the logits are predictions"
    depths = trainer.predict(rows, ignore_keys=[]).predictions[1]
    assert depths.shape == (6, longest) and depths.max() <= 5


def test_trainer_accumulates_means(directory, tmp_path):
    """Two pieces of two sequences move the weights as one of four does."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows = [dict(tokenizer(sentence)) | {"label": index % 2} for index, sentence in enumerate(SENTENCES[:4])]
    weights = []
    for pieces in (1, 2):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(directory, classifier_dropout_prob=0.0)
        sizes = {"per_device_train_batch_size": 4 // pieces, "gradient_accumulation_steps": pieces}
        options = {"optim": "sgd", "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
        trainer, *_ = train(model, rows, DataCollatorWithPadding(tokenizer), tmp_path, **sizes, **options)
        weights.append(trainer.model.state_dict())
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_trainer_with_gradient_checkpointing(directory, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    rows = [dict(tokenizer(sentence)) | {"label": 0.1 * index} for index, sentence in enumerate(SENTENCES)]
    model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=1)
    collator = DataCollatorWithPadding(tokenizer)
    trainer, metrics, _ = train(model, rows, collator, tmp_path, **{CHECKPOINTING: True})
    assert getattr(trainer.model, f"is_{CHECKPOINTING}") and np.isfinite(metrics["eval_loss"])
    assert trainer.model.config.problem_type == "regression"
