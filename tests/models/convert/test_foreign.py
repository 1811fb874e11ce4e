"""What others wrote: old names, the authors' names, and what is refused."""

import io
import json
import random

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import AlbertConfig, AlbertForPreTraining, AutoTokenizer

from depthlab.commands.convert import convert
from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from tests.models.conftest import SIZES, ragged_inputs


def edit(directory, change):
    """Change the weights of a directory."""
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def configure(directory, **settings):
    """Change the configuration of a directory."""
    content = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(content | settings))


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


@pytest.mark.parametrize("pickled", [True, False])
@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_what_a_model_is_its_weights_say(kind, request, source, out, tmp_path, pickled):
    """As of the first BERTs, whose config.json names no type."""
    request.getfixturevalue(kind)
    convert(str(source), str(out))
    content = json.loads((source / "config.json").read_text())
    del content["model_type"], content["architectures"]
    (source / "config.json").write_text(json.dumps(content))
    if pickled:
        torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
        (source / "model.safetensors").unlink()
    convert(str(source), str(tmp_path / "again"))
    first, second = (load_file(directory / "model.safetensors") for directory in (out, tmp_path / "again"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_neither_type_nor_weights_that_say_it(bert, source, out):
    edit(source, lambda weights: weights.update({"roberta.x": torch.ones(1)}))
    configure(source, model_type=None)
    with pytest.raises(UserError, match="a model of type None: convert takes bert"):
        convert(str(source), str(out))
    (source / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="a model of type None"):
        convert(str(source), str(out))


def test_a_sentencepiece_model_is_tokenizer_enough(source, out):
    """ALBERTs of before came with that and no more; ids are SentencePiece's own."""
    model = io.BytesIO()
    letters = (" ".join(draw.choices("abcdefghij", k=5)) for draw in [random.Random(0)] for _ in range(500))
    specials = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "<pad>"}
    specials["control_symbols"] = ["[CLS]", "[SEP]", "[MASK]"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=letters, model_writer=model, vocab_size=24, minloglevel=2, **specials
    )
    AlbertForPreTraining(AlbertConfig(**SIZES | {"vocab_size": 24}, num_hidden_layers=3)).save_pretrained(source)
    (source / "spiece.model").write_bytes(model.getvalue())
    convert(str(source), str(out))
    tokenizer = AutoTokenizer.from_pretrained(out)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    assert tokenizer.encode("a bad cab", add_special_tokens=False) == theirs.encode("a bad cab")
    assert len(tokenizer) == 24 and tokenizer.mask_token == "[MASK]"


@pytest.mark.parametrize("pickled", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_albert_act(albert, source, out, pickled, bare):
    """A checkpoint of the authors' names, built from an ALBERT and a halting unit of our own."""
    ours = AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(**SIZES, num_hidden_layers=5, act_epsilon=0.05)).eval()
    ours.load_state_dict(albert.state_dict(), strict=False)
    torch.nn.init.normal_(ours.albert.encoder.halting.weight)
    theirs = {}
    for name, weight in ours.state_dict().items():
        name = name.replace("albert_layer_groups.0.albert_layers.0.", "albert_layer.")
        name = name.replace("attention.Layer", "Layer").replace("encoder.halting.", "encoder.albert_layer.act.dense.")
        if name.startswith("albert.") or not bare:
            theirs[name.removeprefix("albert.") if bare else name] = weight.clone()
    (source / "model.safetensors").unlink()
    if pickled:
        torch.save(theirs, source / "pytorch_model.bin")
    else:
        save_file(theirs, source / "model.safetensors", metadata={"format": "pt"})
    configure(source, model_type="albert_act", act_epsilon=0.05, num_hidden_layers=5)
    convert(str(source), str(out))
    again = AdaptiveAlbertForPreTraining.from_pretrained(out).eval()
    assert (again.config.act_update, again.config.act_cap, again.config.act_epsilon) == ("blend", "truncate", 0.05)
    for name, weight in ours.state_dict().items():
        assert (bare and not name.startswith("albert.")) or torch.equal(again.state_dict()[name], weight), name
    inputs = ragged_inputs([9, 4])
    assert torch.equal(again.albert(**inputs).depths, ours.albert(**inputs).depths)
    with pytest.raises(UserError, match="--mean_depth"):
        convert(str(source), str(out.with_name("other")), mean_depth=3)


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


def test_sources_are_refused(albert, source, out, tmp_path):
    def refuses(message, **settings):
        with pytest.raises(UserError, match=message):
            convert(str(source), str(tmp_path / "third"), **settings)

    refuses("--tie is for BERTs", tie="first")
    convert(str(source), str(out))
    with pytest.raises(UserError, match="adaptive ALBERT already"):
        convert(str(out), str(tmp_path / "third"))
    with pytest.raises(UserError, match="nowhere is not a directory"):
        convert(str(tmp_path / "nowhere"), str(out.with_name("other")))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (source / file).unlink()
    refuses("holds no tokenizer")
    edit(source, lambda weights: weights.update({"classifier.weight": torch.ones(2, 16)}))
    refuses(r"nobody here reads: classifier\.weight")
    (source / "model.safetensors").write_bytes(b"nothing")
    refuses("cannot read the weights")
    (source / "model.safetensors").unlink()
    refuses(r"no file named model\.safetensors")
    configure(source, model_type="gpt2")
    refuses("'gpt2'")
    (source / "config.json").unlink()
    refuses(r"holds no config\.json")
