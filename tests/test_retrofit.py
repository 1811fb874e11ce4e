"""From a BERT to an adaptive ALBERT through the command line: convert, up-train with a teacher, switch halting on."""

import json

import pytest
import torch
from transformers import AutoModelForPreTraining, AutoTokenizer, BertConfig, BertModel

from depthlab.cli import main
from depthlab.data.tokenization import word_start_table
from depthlab.models.checkpoint import DepthSettings
from depthlab.tasks import RetrofitTask
from depthlab.tasks.teaching import Answer
from tests.support import RETROFIT, arguments, error_of, run, scalars, write_corpus


@pytest.fixture(scope="module")
def converted(bert):
    main(["convert", str(bert), str(bert / "converted"), "--mean_depth", "3"])
    return bert / "converted"


def settings(bert, run_dir, **changes):
    corpus = bert / "corpus.txt"
    write_corpus(corpus)
    values = RETROFIT | {
        "run_dir": run_dir,
        "model.checkpoint": bert / "converted",
        "model.teacher": bert,
        "model.depth.num_hidden_layers": 8,
        "model.warmup_steps": 2,
        "model.fixed_depth_steps": 6,
        "model.time_penalty_warmup_steps": 2,
        "data.corpus": corpus,
        "data.cache_dir": bert / "cache",
        "trainer.max_steps": 12,
        "trainer.log_every_n_steps": 1,
        "trainer.val_check_interval": 12,
    }
    return arguments("fit", "retrofit", values, **changes)


@pytest.mark.full
def test_bert_becomes_adaptive(bert, converted, tmp_path):
    """Distilled at fixed depth, which teaches; then adaptive, without a teacher; what leaves loads as a checkpoint."""
    run(settings(bert, tmp_path / "run", model__optimizer__init_args__lr=5e-3))
    depth = scalars(tmp_path / "run", "train/depth/all")
    assert all(depth[step] == 8 for step in range(6))
    assert any(depth[step] < 8 for step in range(6, 12))
    distillation = scalars(tmp_path / "run", "train/loss/layers")
    assert set(distillation) == set(range(12))
    assert distillation[5] < distillation[0]
    penalty = scalars(tmp_path / "run", "train/time_penalty")
    assert penalty[4] == 0 and penalty[11] == pytest.approx(5e-4)
    assert "val/depth/all" in json.loads((tmp_path / "run/results.json").read_text())

    again = settings(bert, tmp_path / "again", model__checkpoint=tmp_path / "run", trainer__max_steps=1)
    run([argument for argument in again if "teacher" not in argument])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "again/tokenizer")
    assert [piece[:2] == "##" for piece in tokenizer.tokenize("abc d.")] == [False, True, True, False, False]
    assert word_start_table(tokenizer).sum() == 5 + 1 + 26


def test_the_teacher_reads_what_was_masked(bert, converted):
    """In training only; beside the losses of pre-training."""
    task = RetrofitTask(str(converted), teacher=str(bert), teaches={"layers": 1.0, "last": 2.0}, fixed_depth_steps=1)
    original = torch.randint(5, 58, (2, 7))
    labels = torch.full_like(original, -100)
    labels[:, 2] = original[:, 2]
    ones = torch.ones_like(original)
    batch = {"input_ids": original.clone(), "labels": labels, "attention_mask": ones, "token_type_ids": ones * 0}
    batch["input_ids"][:, 2] = 4
    batch["sentence_order_label"] = torch.tensor([0, 1])
    for held in (4, None):
        task.model.albert.encoder.hold_depth = held
        outputs = task.run_model(batch)
        inputs = {name: batch[name] for name in ("attention_mask", "token_type_ids")} | {"input_ids": original}
        answer = Answer(outputs.last_hidden_state, outputs.hidden_states, outputs.depths)
        wanted, found = task.teacher.losses(inputs, answer), task.losses(batch, outputs)
        assert found.keys() == {"mlm", "sop", "ponder"} | wanted.keys() and wanted.keys() == {"layers", "last"}
        for name in wanted:
            torch.testing.assert_close(found[name].means, wanted[name].means)
    assert task.loss_weights["last"] == 2.0
    task.eval()
    assert task.losses(batch, task.run_model(batch)).keys() == {"mlm", "sop", "ponder"}


def test_half_precision_is_trained_in_single(converted, tmp_path):
    AutoModelForPreTraining.from_pretrained(converted, dtype=torch.float16).save_pretrained(tmp_path)
    assert {weight.dtype for weight in RetrofitTask(str(tmp_path)).parameters()} == {torch.float32}


def test_a_given_bias_replaces_the_checkpoints(converted):
    halting = RetrofitTask(str(converted), DepthSettings(halting_bias_init=-5.0)).model.albert.encoder.halting
    assert halting.bias.item() == -5.0 and not halting.weight.any()


def test_an_untied_bert_goes_all_the_way(bert, tmp_path):
    """Converted without tying, trained, exported."""
    main(["convert", str(bert), str(tmp_path / "untied"), "--tie", "none"])
    changes = {"model__checkpoint": tmp_path / "untied", "model__depth__num_hidden_layers": "null"}
    main(settings(bert, tmp_path / "run", **changes, trainer__max_steps=2, model__fixed_depth_steps=1))
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "run/model")
    assert model.config.model_type == "adaptive_bert" and model.config.num_hidden_groups == 4
    assert "val/depth/all" in json.loads((tmp_path / "run/results.json").read_text())


def test_the_teacher_is_not_saved(bert, converted):
    with_teacher = RetrofitTask(str(converted), teacher=str(bert), fixed_depth_steps=1).state_dict()
    assert with_teacher.keys() == RetrofitTask(str(converted)).state_dict().keys()


BAD_SETTINGS = {
    "model.checkpoint": ("{bert}", "depthlab convert"),
    "model.checkpoint ": ("{bert}/cache", "config.json"),
    "model.checkpoint  ": ("no/such/place", "no/such/place"),
    "model.teacher": ("no/such/teacher", "model.teacher"),
    "model.teacher ": ("{narrow}", "hidden_size"),
    "model.depth.act_cap": ("cut", "act_cap"),
    "model.depth.act_epsilon": ("2.0", "act_epsilon"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_bad_setting_gets_one_line(bert, converted, tmp_path, capsys, name):
    value, expected = BAD_SETTINGS[name]
    (bert / "cache").mkdir(exist_ok=True)
    narrow = BertConfig(vocab_size=58, hidden_size=8, num_attention_heads=2, intermediate_size=8, num_hidden_layers=1)
    BertModel(narrow).save_pretrained(tmp_path / "narrow")
    value = value.format(bert=bert, narrow=tmp_path / "narrow")
    assert expected in error_of(capsys, [*settings(bert, tmp_path / "run"), f"--{name.strip()}={value}"])
    assert not list((tmp_path / "run").rglob("*.ckpt"))
