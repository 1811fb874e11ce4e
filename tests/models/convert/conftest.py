"""Small models of others, as Hugging Face saves them, to be converted."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from transformers import AlbertConfig, AlbertForPreTraining, BertConfig, BertForPreTraining, PreTrainedTokenizerFast

from tests.models.conftest import SIZES

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
