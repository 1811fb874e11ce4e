"""Conversion against the models that the weights come from."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from torch.nn import functional as F
from transformers import (
    AlbertConfig,
    AlbertForPreTraining,
    AlbertModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from depthlab.cli import main
from depthlab.commands.convert import convert
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining, AdaptiveAlbertModel
from depthlab.models.convert.conversion import halting_bias
from depthlab.models.convert.factorising import factorise
from tests.models.conftest import SIZES, ragged_inputs

LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0."
BERT_SIZES = {name: value for name, value in SIZES.items() if name != "embedding_size"}


def save(model, directory):
    """A model's directory, with a WordPiece tokenizer of as many tokens as the model has embeddings."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"##{n}" for n in range(55))]
    tokenizer = Tokenizer(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(directory)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval().save_pretrained(directory)
    return model


def alike(bert):
    """All layers become the first one."""
    for layer in bert.base_model.encoder.layer:
        layer.load_state_dict(bert.base_model.encoder.layer[0].state_dict())
    return bert


def edit(directory, change):
    """Change the weights of a directory."""
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "nested" / "out"


@pytest.fixture
def bert(source):
    return save(BertForPreTraining(BertConfig(**BERT_SIZES, num_hidden_layers=3)), source)


@pytest.fixture
def albert(source):
    return save(AlbertForPreTraining(AlbertConfig(**SIZES, num_hidden_layers=3)), source)


@pytest.mark.parametrize("model_class", [BertModel, BertForMaskedLM])
@pytest.mark.parametrize("halting", ["act", "fixed"])
def test_bert_of_one_layer_repeated_stays_what_it_is(source, out, model_class, halting):
    bert = save(alike(model_class(BertConfig(**BERT_SIZES, num_hidden_layers=3))), source)
    alike(bert).save_pretrained(source)
    convert(str(source), str(out), halting=halting)
    # a bias of -40 never halts, so that `act` is the fixed depth
    ours = AdaptiveAlbertForPreTraining.from_pretrained(out).double().eval()
    if halting == "act":
        torch.nn.init.constant_(ours.albert.encoder.halting.bias, -40.0)
    bert.double()
    inputs = ragged_inputs([9, 4, 1])
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        wanted, actual = bert.base_model(**inputs), ours.albert(**inputs)
        torch.testing.assert_close(actual.last_hidden_state[real], wanted.last_hidden_state[real], rtol=0, atol=1e-11)
        if model_class is BertModel:
            torch.testing.assert_close(actual.pooler_output, wanted.pooler_output, rtol=0, atol=1e-11)
        else:
            logits, theirs = ours(**inputs).prediction_logits[real], bert(**inputs).logits[real]
            torch.testing.assert_close(logits, theirs, rtol=0, atol=1e-10)


def test_default_of_bert_hardly_jumps(source, out):
    """The halting unit gives a tenth of the weight to the iterations before the cap, and no token stops there."""
    save(BertModel(BertConfig(**BERT_SIZES, num_hidden_layers=6)), source)
    convert(str(source), str(out))
    inputs = ragged_inputs([9, 4])
    output = AdaptiveAlbertModel.from_pretrained(out).eval()(**inputs)
    real = inputs["attention_mask"].bool()
    assert (output.depths[real] == 6).all()
    torch.testing.assert_close(output.remainders[real], torch.full((13,), 0.9))


@pytest.mark.parametrize("tie", ["average", "first", "last", 2])
def test_tying_rules(bert, source, out, tie):
    convert(str(source), str(out), tie=tie)
    written = load_file(out / "model.safetensors")
    theirs = {"ffn.weight": "intermediate.dense.weight", "attention.query.bias": "attention.self.query.bias"}
    for ours, name in theirs.items():
        layers = np.stack([bert.state_dict()[f"bert.encoder.layer.{n}.{name}"].numpy() for n in range(3)])
        wanted = {"average": layers.mean(0), "first": layers[0], "last": layers[2], 2: layers[1]}[tie]
        np.testing.assert_allclose(written[LAYER + ours].numpy(), wanted, rtol=1e-6, atol=1e-7)


def test_configuration_and_tokenizer_come_along(source, out):
    config = BertConfig(**BERT_SIZES, num_hidden_layers=3, hidden_act="relu", layer_norm_eps=1e-6, type_vocab_size=3)
    save(BertModel(config), source)
    convert(str(source), str(out), num_hidden_layers=8)
    ours = AdaptiveAlbertConfig.from_pretrained(out)
    for name in (*BERT_SIZES, "hidden_act", "layer_norm_eps", "type_vocab_size", "pad_token_id", "bos_token_id"):
        assert getattr(ours, name) == getattr(config, name), name
    assert (ours.num_hidden_layers, ours.embedding_size, ours.hidden_dropout_prob) == (8, 16, 0.0)
    assert (ours.act_update, ours.act_cap, ours.halting) == ("accumulate", "remainder", "act")
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(source).get_vocab()


def embedded(model, inputs):
    return model.encoder.embedding_hidden_mapping_in(model.embeddings(**inputs))


def test_factorised_embeddings_of_low_rank_are_exact(source, out):
    bert = save(BertModel(BertConfig(**BERT_SIZES, num_hidden_layers=1)), source)
    directions = torch.randn(5, 16)
    for table in ("word", "position", "token_type"):
        weight = getattr(bert.embeddings, f"{table}_embeddings").weight
        weight.data = torch.randn(len(weight), 5) @ directions
    bert.save_pretrained(source)
    convert(str(source), str(out), embedding_size=6)
    ours = AdaptiveAlbertModel.from_pretrained(out, halting="fixed").eval()
    inputs = {name: value for name, value in ragged_inputs([20, 20]).items() if name != "attention_mask"}
    torch.testing.assert_close(embedded(ours, inputs), bert.embeddings(**inputs), rtol=0, atol=2e-5)
    assert ours.embeddings.word_embeddings.weight.shape == (60, 6)


def test_factorisation_is_the_least_squares_one():
    torch.manual_seed(1)
    sums = torch.randn(200, 16, dtype=torch.float64) @ torch.randn(16, 16, dtype=torch.float64) + 0.5
    importance = torch.rand(200, dtype=torch.float64)
    target = F.layer_norm(sums, (16,), eps=1e-12) @ torch.randn(16, 20, dtype=torch.float64)
    basis, weight, bias, residual = factorise(sums, target, importance, 6, 1e-12)
    target = target.numpy()
    features = F.layer_norm(sums @ basis, (6,), eps=1e-12).numpy()
    with_one = np.concatenate([features, np.ones((200, 1))], axis=1)
    root = np.sqrt(importance.numpy())[:, None]
    best = with_one @ np.linalg.lstsq(root * with_one, root * target, rcond=None)[0]
    actual = features @ weight.numpy().T + bias.numpy()
    np.testing.assert_allclose(actual, best, atol=1e-9)
    np.testing.assert_allclose(
        residual, np.linalg.norm(best - target) / np.linalg.norm(target - target.mean(0)), rtol=1e-9
    )
    # the leading singular vectors of the centred, normalised, weighted rows
    rows = sums.numpy() - sums.numpy().mean(1, keepdims=True)
    _, _, vectors = np.linalg.svd(root * rows / np.linalg.norm(rows, axis=1, keepdims=True))
    np.testing.assert_allclose((basis @ basis.T).numpy(), vectors[:5].T @ vectors[:5], atol=1e-9)
    np.testing.assert_allclose((sums @ basis).mean(1).numpy(), 0, atol=1e-12)


def test_a_new_head_compares_states_with_embeddings(source, out, capsys):
    save(BertModel(BertConfig(**BERT_SIZES, num_hidden_layers=1)), source)
    convert(str(source), str(out))
    ours = AdaptiveAlbertForPreTraining.from_pretrained(out).eval()
    states = torch.randn(3, 16)
    words = ours.albert.embeddings.word_embeddings.weight
    wanted = F.layer_norm(F.gelu(states), (16,), eps=1e-12) @ words.T
    torch.testing.assert_close(ours.predictions(states), wanted)
    said = capsys.readouterr().out
    assert "predictions.*" in said and "sop_classifier.classifier.weight" in said and "encoder.halting.bias" in said


def low_rank_albert(albert, rank):
    """Its tables of embeddings hold vectors of mean 0 in few directions, as after training on few kinds of words."""
    directions = torch.randn(rank, 8)
    directions -= directions.mean(dim=1, keepdim=True)
    for table in ("word", "position", "token_type"):
        weight = getattr(albert.albert.embeddings, f"{table}_embeddings").weight
        weight.data = torch.randn(len(weight), rank) @ directions
    return albert


@pytest.mark.parametrize("kind", ["albert", "adaptive_albert"])
def test_embeddings_of_an_albert_are_factorised_on(albert, source, out, tmp_path, kind):
    """What is of low rank stays the same: h^0 of every token, and what the head's first layer says of every piece."""
    low_rank_albert(albert, 4).save_pretrained(source)
    before = albert
    if kind == "adaptive_albert":
        convert(str(source), str(tmp_path / "ours"), mean_depth=3)
        before, source = AdaptiveAlbertForPreTraining.from_pretrained(tmp_path / "ours").eval(), tmp_path / "ours"
    convert(str(source), str(out), embedding_size=5)
    after = AdaptiveAlbertForPreTraining.from_pretrained(out).eval()
    assert after.albert.embeddings.word_embeddings.weight.shape == (60, 5)
    inputs = {name: value for name, value in ragged_inputs([20, 20]).items() if name != "attention_mask"}
    torch.testing.assert_close(embedded(after.albert, inputs), embedded(before.albert, inputs), rtol=0, atol=2e-5)

    def raw(model, states):
        return model.predictions.dense(states) @ model.get_input_embeddings().weight.T

    states = torch.randn(3, 16)
    torch.testing.assert_close(raw(after, states), raw(before, states), rtol=0, atol=2e-5)
    assert torch.equal(after.predictions.bias, before.predictions.bias)
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
    assert torch.equal(after.state_dict()[layer], before.state_dict()[layer])
    if kind == "adaptive_albert":
        assert torch.equal(after.albert.encoder.halting.bias, before.albert.encoder.halting.bias)


def test_factorising_says_what_is_approximated(bert, source, out, capsys):
    convert(str(source), str(out), embedding_size=8)
    said = capsys.readouterr().out
    assert "relative residual" in said and "predictions.LayerNorm is new" in said
    assert "dropped      cls.seq_relationship.bias, cls.seq_relationship.weight" in said
    ours = AdaptiveAlbertForPreTraining.from_pretrained(out)
    assert ours.predictions.decoder.weight is ours.albert.embeddings.word_embeddings.weight
    assert torch.equal(ours.predictions.bias, bert.cls.predictions.bias)
    assert torch.equal(ours.albert.pooler.weight, bert.bert.pooler.dense.weight)


def test_old_names_and_the_bare_encoder(bert, source, out, tmp_path):
    """The first BERTs call a layer norm's weight gamma; a bare encoder has no prefix; position_ids is a buffer."""
    convert(str(source), str(out))

    def as_of_old(weights):
        for name in list(weights):
            if name.startswith("cls."):
                del weights[name]
            else:
                new = name.removeprefix("bert.").replace("LayerNorm.weight", "LayerNorm.gamma")
                weights[new.replace("LayerNorm.bias", "LayerNorm.beta")] = weights.pop(name)
        weights["embeddings.position_ids"] = torch.arange(24)[None]

    edit(source, as_of_old)
    convert(str(source), str(tmp_path / "again"))
    first, second = (load_file(directory / "model.safetensors") for directory in (out, tmp_path / "again"))
    for name in first:
        assert name.startswith("predictions.") or torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_albert_there_and_back_is_the_same(source, out, tmp_path, bare, dtype):
    model_class = AlbertModel if bare else AlbertForPreTraining
    config = AlbertConfig(**SIZES, num_hidden_layers=3, classifier_dropout_prob=0.3, num_hidden_groups=1)
    albert = save(model_class(config).to(dtype), source)
    convert(str(source), str(out), mean_depth=2)
    with pytest.raises(UserError, match="--halting fixed"):
        convert(str(out), str(tmp_path / "back"), **{"as": "albert"})
    convert(str(out), str(tmp_path / "back"), halting="fixed", **{"as": "albert"})
    content = json.loads((tmp_path / "back" / "config.json").read_text())
    assert content["model_type"] == "albert" and "act_epsilon" not in content
    back = AlbertForPreTraining.from_pretrained(tmp_path / "back")
    theirs = albert.state_dict() if not bare else {f"albert.{n}": w for n, w in albert.state_dict().items()}
    for name, weight in theirs.items():
        assert torch.equal(back.state_dict()[name], weight) and back.state_dict()[name].dtype == dtype, name
    for name in (*SIZES, "num_hidden_layers", "classifier_dropout_prob", "hidden_act"):
        assert getattr(back.config, name) == getattr(config, name)


def test_albert_of_groups_needs_a_fixed_depth(source, out, tmp_path):
    albert = save(AlbertForPreTraining(AlbertConfig(**SIZES, num_hidden_layers=4, num_hidden_groups=2)), source)
    with pytest.raises(UserError, match="num_hidden_groups"):
        convert(str(source), str(out))
    convert(str(source), str(out), halting="fixed")
    convert(str(out), str(tmp_path / "back"), **{"as": "albert"})
    back = AlbertForPreTraining.from_pretrained(tmp_path / "back").state_dict()
    assert all(torch.equal(back[name], weight) for name, weight in albert.state_dict().items())


@pytest.mark.parametrize("pickled", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_albert_act(albert, source, out, pickled, bare):
    """A checkpoint of the authors' names, built from an ALBERT and a halting unit of our own."""
    ours = AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(**SIZES, num_hidden_layers=5, act_epsilon=0.05)).eval()
    ours.load_state_dict(albert.state_dict(), strict=False)
    torch.nn.init.normal_(ours.albert.encoder.halting.weight)
    theirs = {}
    for name, weight in ours.state_dict().items():
        name = name.replace("encoder.halting.", "encoder.albert_layer.act.dense.")
        name = name.replace("encoder.albert_layer_groups.0.albert_layers.0.", "encoder.albert_layer.")
        name = name.replace("albert_layer.attention.LayerNorm.", "albert_layer.LayerNorm.")
        if not bare:
            theirs[name] = weight.clone()
        elif name.startswith("albert."):
            theirs[name.removeprefix("albert.")] = weight.clone()
    theirs["embeddings.position_ids" if bare else "albert.embeddings.position_ids"] = torch.arange(24)[None]
    (source / "model.safetensors").unlink()
    if pickled:
        torch.save(theirs, source / "pytorch_model.bin")
    else:
        save_file(theirs, source / "model.safetensors", metadata={"format": "pt"})
    written = json.loads((source / "config.json").read_text())
    written |= {"model_type": "albert_act", "act_epsilon": 0.05, "num_hidden_layers": 5}
    (source / "config.json").write_text(json.dumps(written))

    convert(str(source), str(out))
    again = AdaptiveAlbertForPreTraining.from_pretrained(out).eval()
    config = again.config
    assert (config.act_update, config.act_cap, config.act_epsilon) == ("blend", "truncate", 0.05)
    for name, weight in ours.state_dict().items():
        assert (bare and not name.startswith("albert.")) or torch.equal(again.state_dict()[name], weight), name
    inputs = ragged_inputs([9, 4])
    assert torch.equal(again.albert(**inputs).depths, ours.albert(**inputs).depths)
    with pytest.raises(UserError, match="--mean_depth"):
        convert(str(source), str(out.with_name("other")), mean_depth=3)


@pytest.mark.parametrize("act_cap", ["truncate", "remainder"])
@pytest.mark.parametrize("act_update", ["blend", "accumulate"])
@pytest.mark.parametrize(("cap", "mean_depth"), [(6, 2), (6, 3), (12, 11), (12, 12), (24, 7), (24, 24), (6, 9), (1, 1)])
def test_first_depths_are_the_wished_ones(sizes, act_update, act_cap, cap, mean_depth):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=cap, act_update=act_update, act_cap=act_cap)
    config.halting_bias_init = halting_bias(config, mean_depth)
    model = AdaptiveAlbertModel(config).eval()
    torch.nn.init.zeros_(model.encoder.halting.weight)
    inputs = ragged_inputs([7, 3])
    depths = model(**inputs).depths[inputs["attention_mask"].bool()]
    assert (depths == min(mean_depth, cap)).all()


def test_depths_stay_about_the_wished_one_when_probabilities_vary(sizes):
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=24)
    for mean_depth in (3, 6, 12):
        logits = halting_bias(config, mean_depth) + 0.4 * torch.randn(2000, 24, dtype=torch.float64)
        halted = logits.sigmoid().cumsum(1) > 1 - config.act_epsilon
        depths = torch.where(halted.any(1), halted.int().argmax(1) + 1, 24)
        assert abs(depths.double().mean() - mean_depth) < 0.05 * mean_depth


def test_command_line(bert, source, out, capsys):
    main(["convert", str(source), str(out), "--tie", "2", "--embedding_size", "8", "--mean_depth=2"])
    said = capsys.readouterr().out
    for part in ("bert:", "E 8, H 16", "layer 2 of 3", "relative residual 0.", "encoder.halting.weight", str(out)):
        assert part in said
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(source), str(out)])
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err == f"depthlab: error: OUT {out} exists already: name another directory or remove it\n"
    )
    main(["convert", str(out), f"{out}-albert", "--as", "albert", "--halting", "fixed"])
    assert json.loads((out.parent / "out-albert" / "config.json").read_text())["model_type"] == "albert"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("bert.encoder.layer.1.output.dense.bias"), r"lacks bert.encoder.layer.1.output.dense.bias$"),
        (lambda w: w.pop("cls.predictions.transform.dense.bias"), "lacks cls.predictions.transform.dense.bias"),
        (lambda w: w.update({"bert.encoder.layer.3.x": torch.ones(1)}), "nobody here reads: bert.encoder.layer.3.x"),
        (lambda w: w.update({"bert.pooler.dense.bias": torch.ones(7)}), r"bert.pooler.dense.bias is \[7\].*\[16\]"),
        (lambda w: w.update({"cls.predictions.decoder.weight": torch.ones(60, 16)}), "decoder.weight must be"),
    ],
)
def test_weights_are_refused_by_name(bert, source, out, change, message):
    edit(source, change)
    with pytest.raises(UserError, match=message):
        convert(str(source), str(out))
    assert not out.exists()


def test_a_task_head_is_left_over(source, out):
    save(BertForSequenceClassification(BertConfig(**BERT_SIZES, num_hidden_layers=1)), source)
    with pytest.raises(UserError, match=r"nobody here reads: classifier.bias, classifier.weight"):
        convert(str(source), str(out))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tie": 0}, "--tie 0: SOURCE has the layers 1 to 3"),
        ({"tie": 4}, "--tie 4: SOURCE has the layers 1 to 3"),
        ({"embedding_size": 17}, "--embedding_size must lie between 2 and SOURCE's 16, got 17"),
        ({"embedding_size": 1}, "--embedding_size must lie between 2"),
        ({"mean_depth": 1}, "--mean_depth must be at least 2"),
        ({"mean_depth": 2, "halting": "fixed"}, "--mean_depth sets the bias of a new halting unit"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1"),
        ({"as": "albert"}, "--halting fixed"),
    ],
)
def test_settings_are_refused(bert, source, out, settings, message):
    with pytest.raises(UserError, match=message):
        convert(str(source), str(out), **settings)
    assert not out.exists()


def test_sources_are_refused(albert, source, out, tmp_path):
    with pytest.raises(UserError, match=r"SOURCE .*nowhere is not a directory"):
        convert(str(tmp_path / "nowhere"), str(out))
    with pytest.raises(UserError, match="--tie is for BERTs"):
        convert(str(source), str(out), tie="first")
    convert(str(source), str(out))
    with pytest.raises(UserError, match="exists already"):
        convert(str(source), str(out))
    with pytest.raises(UserError, match="adaptive ALBERT already"):
        convert(str(out), str(tmp_path / "other"))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"holds no config\.json"):
        convert(str(tmp_path / "other"), str(tmp_path / "third"))
    (source / "tokenizer.json").unlink()
    (source / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="tokenizer"):
        convert(str(source), str(tmp_path / "third"))
    (source / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read the weights"):
        convert(str(source), str(tmp_path / "third"))
    (source / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no file named model\.safetensors"):
        convert(str(source), str(tmp_path / "third"))
    content = json.loads((source / "config.json").read_text()) | {"model_type": "gpt2"}
    (source / "config.json").write_text(json.dumps(content))
    save_file({"wte.weight": torch.ones(1)}, source / "model.safetensors")
    with pytest.raises(UserError, match="'gpt2'"):
        convert(str(source), str(tmp_path / "third"))


def test_nothing_half_written(bert, source, out, monkeypatch):
    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(UserError, match=r"cannot write to OUT .*full"):
        convert(str(source), str(out))
    assert not list(out.parent.iterdir())
