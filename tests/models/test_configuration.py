"""Keys that are nobody's here: refused where a user types them, kept where a file has them."""

import json
import logging

import pytest
import torch
from transformers import AutoConfig, AutoModel

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveBertConfig, AdaptiveBertModel
from depthlab.models.checkpoint import load_checkpoint
from tests.models.conftest import SIZES
from tests.models.variants import BASE, batch, build

FOREIGN = {
    "my_note": "of the third run",
    "auto_map": {"AutoModel": "modeling.Model"},
    "quantization_config": None,
    "tokenizer_class": "AlbertTokenizer",
    "transformers.js_config": {"dtype": "q8"},
    "nested": {"list": [1, {"two": None}]},
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("untied", [False, True])
def test_a_files_foreign_keys_are_kept_and_written_back(tmp_path, caplog, untied):
    model = AdaptiveBertModel(AdaptiveBertConfig(**SIZES | {"vocab_size": 120})).eval() if untied else build(BASE)
    model.save_pretrained(tmp_path / "one")
    file = tmp_path / "one/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | FOREIGN))
    again = AutoModel.from_pretrained(tmp_path / "one", execution="dense")
    assert again.config.my_note == FOREIGN["my_note"] and again.config.execution == "dense"
    again.save_pretrained(tmp_path / "two")
    written = json.loads((tmp_path / "two/config.json").read_text())
    assert {key: written[key] for key in FOREIGN} == FOREIGN
    inputs = batch()
    torch.testing.assert_close(again(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    assert load_checkpoint(type(model), str(tmp_path / "two")).config.my_note == FOREIGN["my_note"]
    assert not caplog.records


def test_a_file_with_a_typo_loads_with_a_warning(tmp_path, caplog):
    logging.Logger.warning_once.cache_clear()
    config = AdaptiveAlbertConfig(**SIZES)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict() | {"act_epsilonn": 0.5}))
    assert AutoConfig.from_pretrained(tmp_path).act_epsilon == 0.01
    assert "'act_epsilonn'" in caplog.text and "did you mean 'act_epsilon'" in caplog.text


def test_a_user_types_it():
    with pytest.raises(UserError, match="unknown configuration key 'my_note'"):
        AdaptiveAlbertConfig(my_note="x")
    with pytest.raises(UserError, match="did you mean 'act_epsilon'"):
        AdaptiveAlbertConfig(act_epsilonn=0.1)
    with pytest.raises(UserError, match="unknown configuration key 'my_note'"):
        AdaptiveBertConfig(my_note="x")


def test_a_user_types_it_when_loading(tmp_path):
    build(BASE).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="act_epsilonn"):
        BASE.from_pretrained(tmp_path, act_epsilonn=0.1)


def test_what_tools_write_may_be_handed_to_the_constructor():
    """Some make a configuration again from its dictionary."""
    config = AdaptiveAlbertConfig(**SIZES)
    config.auto_map, config.dtype = FOREIGN["auto_map"], torch.float32
    assert AdaptiveAlbertConfig(**config.to_dict()).auto_map == FOREIGN["auto_map"]
