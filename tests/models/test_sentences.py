"""sentence-transformers takes a model that was trained for sentences, as it is."""

import threading

import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer

from depthlab.commands.export import export
from depthlab.models import AdaptiveAlbertModel
from depthlab.models.sentences import keep_depths
from tests.models.exported import tiny_tokenizer, write_run
from tests.models.variants import build

sentence_transformers = pytest.importorskip("sentence_transformers")

SENTENCES = ["bado kelu mi.", "mi", "kelu kelu bado mi bado mi mi.", "bado."]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The export of a run that learnt from a sentence encoder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sentences")
    checkpoint = write_run(folder / "run", build(AdaptiveAlbertModel), tiny_tokenizer(folder))
    settings = {"model": {"teaches": {"direction": 1.0, "pairs": 10.0}}}
    (folder / "run/config.yaml").write_text(yaml.safe_dump(settings))
    export(checkpoint=str(checkpoint), to=str(folder / "model"))
    return folder / "model"


def expected_of(directory):
    """Mean states over the tokens of each sentence, and their depths, by Hugging Face's tools."""
    model, tokenizer = AutoModel.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    with torch.no_grad():
        outputs = [model(**tokenizer(sentence, return_tensors="pt")) for sentence in SENTENCES]
    return torch.stack([output.last_hidden_state[0].mean(0) for output in outputs]), [o.depths[0] for o in outputs]


def test_a_sentence_is_its_mean_state(directory):
    encoder = sentence_transformers.SentenceTransformer(str(directory), device="cpu")
    embeddings, _ = expected_of(directory)
    torch.testing.assert_close(encoder.encode(SENTENCES, convert_to_tensor=True), embeddings)


def test_depths_on_request(directory):
    encoder = keep_depths(sentence_transformers.SentenceTransformer(str(directory), device="cpu"))
    _, depths = expected_of(directory)
    wrong = []

    def encode(number):
        for _ in range(5):
            (found,) = encoder.encode([SENTENCES[number]], output_value=None)
            if not torch.equal(found["depths"], depths[number]):
                wrong.append(number)

    threads = [threading.Thread(target=encode, args=(number,)) for number in range(len(SENTENCES))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for found, expected in zip(encoder.encode(SENTENCES, output_value=None), depths, strict=True):
        assert found["depths"][: len(expected)].equal(expected) and not found["depths"][len(expected) :].any()
