"""From an encoder to one of adaptive depth that gives its answers, through the command line; and what it reads."""

import itertools
import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

from depthlab.cli import main
from depthlab.data.corpora.sentence_batches import FEWEST, SentenceDataModule
from depthlab.data.corpora.sentences import split_sentences
from depthlab.data.tokenization import load_tokenizer
from depthlab.models import AdaptiveAlbertModel
from depthlab.models.halting.route import Router
from tests.support import RETROFIT, arguments, error_of, write_bert, write_corpus


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distillation")
    write_bert(folder / "bert")
    write_corpus(folder / "corpus.txt")
    main(["convert", str(folder / "bert"), str(folder / "untied"), "--tie", "none", "--halting", "fixed"])
    main(["convert", str(folder / "bert"), str(folder / "relaxed"), "--relax", "2", "--halting", "fixed"])
    return folder


def distil(places, run_dir, **changes):
    values = RETROFIT | {
        "run_dir": run_dir,
        "data.corpus": places / "corpus.txt",
        "data.cache_dir": places / "cache",
        "model.checkpoint": places / "relaxed",
        "model.teacher": places / "bert",
        "model.warmup_steps": 0,
        "model.fixed_depth_steps": 0,
        "trainer.accelerator": "cpu",
        "trainer.max_steps": 6,
        "trainer.val_check_interval": 6,
        "trainer.log_every_n_steps": 1,
    }
    return arguments("fit", "distil", values, **changes)


@pytest.mark.parametrize("start", ["untied", pytest.param("relaxed", marks=pytest.mark.full)])
def test_learns_at_adaptive_depth(places, tmp_path, start):
    """Fixed depth and all layers first, then a router that has started from a score; the result loads anywhere."""
    checkpoint = {"model__checkpoint": places / start, "model__fixed_depth_steps": 3}
    main(distil(places, tmp_path / "run", **checkpoint, trainer__max_steps=40, trainer__val_check_interval=20))
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert 1 < results["val/depth/all"] < 4
    assert {"val/loss/direction", "val/loss/pairs"} <= results.keys()
    model = AutoModel.from_pretrained(tmp_path / "run/model").eval()
    assert model.config.halting == "route" and model.encoder.halting.score_weight.any()
    assert model.config.relaxation_rank == (2 if start == "relaxed" else 0)

    tokenizer = load_tokenizer(str(tmp_path / "run/model"))
    inputs = tokenizer(["a long tale of kings.", "b"], padding=True, return_tensors="pt")
    depths = model(**inputs).depths
    going = round(0.4 * int(inputs["attention_mask"][0].sum()))
    assert (depths[0] == 4).sum() == going and (depths[depths != 4] <= 1).all()


def test_what_is_read_is_every_sentence_of_each_part_once(places):
    tokenizer = load_tokenizer(str(places / "bert"))
    data = SentenceDataModule(
        str(places / "corpus.txt"),
        str(places / "bert"),
        vocab_size=58,
        max_length=24,
        validation_fraction=0.2,
        cache_dir=str(places / "cache"),
        num_workers=0,
        batch_size=4,
    )
    data.prepare_data()
    data.setup()
    documents = (places / "corpus.txt").read_text().split("\n\n")
    wanted = {}
    for document in documents:
        for sentence in split_sentences(document):
            ids = tokenizer(sentence, truncation=True, max_length=24)["input_ids"]
            if len(ids) >= FEWEST:
                wanted[tuple(ids)] = wanted.get(tuple(ids), 0) + 1
    parts = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    found = {}
    for loader in parts:
        for batch in loader:
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
                sentence = tuple(ids[mask.bool()].tolist())
                found[sentence] = found.get(sentence, 0) + 1
            assert not batch["token_type_ids"].any()
    assert found == wanted and any(len(ids) == 24 for ids in found)


@pytest.mark.parametrize("max_length", [12, 40])
def test_pairs_are_what_a_tokenizer_makes_of_sentences_that_follow_each_other(places, max_length):
    tokenizer, text = load_tokenizer(str(places / "bert")), (places / "corpus.txt").read_text()
    settings = {"max_length": max_length, "cache_dir": str(places / "cache"), "num_workers": 0, "batch_size": 4}
    data = SentenceDataModule(str(places / "corpus.txt"), str(places / "bert"), 58, pair_share=0.5, **settings)
    data.prepare_data()
    data.setup()
    sentences = [split_sentences(document) for document in text.split("\n\n")]
    half = (max_length - 3) // 2

    def ids(*pieces):
        return (tokenizer.cls_token_id, *itertools.chain(*pieces))

    def cut(sentence, most):
        return (*tokenizer(sentence, add_special_tokens=False)["input_ids"][:most], tokenizer.sep_token_id)

    alone = {ids(cut(one, max_length - 2)) for document in sentences for one in document}
    pairs = {
        ids(cut(one, half), cut(two, half)): len(cut(one, half)) + 1
        for document in sentences
        for one, two in itertools.pairwise(document)
    }
    read = [
        (tuple(row[mask.bool()].tolist()), types[mask.bool()].tolist())
        for batch in data.train_dataloader()
        for row, mask, types in zip(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"], strict=True)
    ]
    two = [row for row, types in read if any(types)]
    assert 0.3 < len(two) / len(read) < 0.6
    for row, types in read:
        first = pairs[row] if any(types) else len(row)
        assert types == [0] * first + [1] * (len(row) - first) and (any(types) or row in alone)


def test_a_new_router_takes_over_a_score():
    router, generator = Router(4), torch.Generator().manual_seed(0)
    before, new = torch.randn(2, 400, 4, generator=generator)
    weights, noise = torch.randn(8, generator=generator), torch.randn(400, generator=generator)
    scores = 3 + torch.cat([before, new], dim=1) @ weights + noise
    router.start_from(before, new, scores, share=0.3)
    features = np.column_stack([before.numpy(), new.numpy(), np.ones(400)])
    standard = (scores.numpy() - scores.numpy().mean()) / scores.numpy().std(ddof=1)
    solution, *_ = np.linalg.lstsq(features, standard, rcond=None)
    torch.testing.assert_close(router.score_weight[0].detach(), torch.tensor(solution[:-1], dtype=torch.float32))
    assert (router(before, new) > 0).sum().item() == 120


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.teaches": '{"layers": 0.0}'}, "model.teaches has nothing to learn"),
        ({"model.teaches": '{"lasst": 1.0}'}, "there is no 'lasst' to learn"),
        ({"model.depth.halting_lr_factor": -1}, "halting_lr_factor must be 0 or more"),
        ({"model.depth.halting_settings": '{"route_shar": 0.5}'}, "did you mean 'route_share'"),
        ({"model.depth.act_update": "blend"}, 'needs act_update "accumulate"'),
        ({"data.corpus": '[{"path": "sample", "weight": 0.5}]'}, "has a `weight`"),
        ({"data.pair_share": 1.5}, "data.pair_share must be from 0 to 1, got 1.5"),
    ],
)
def test_a_users_mistakes(places, tmp_path, capsys, changes, message):
    assert message in error_of(capsys, distil(places, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_with_the_same_pairs(places, tmp_path, capsys):
    main(distil(places, tmp_path / "run", trainer__max_steps=1))
    again = distil(places, tmp_path / "run", trainer__max_steps=2, data__pair_share=0.5)
    message = error_of(capsys, [*again, "--ckpt_path", "last"])
    assert "data.pair_share is not that of the checkpoint to go on from (0.0, now 0.5)" in message


@pytest.mark.full
def test_the_halting_rate_is_its_own(places, tmp_path):
    """With a factor of 0 the router stays where it has started; everything else moves."""
    starts = []
    for factor in (0.0, 3.0):
        run = tmp_path / str(factor)
        main(distil(places, run, model__depth__halting_lr_factor=factor))
        starts.append(AdaptiveAlbertModel.from_pretrained(run / "model").encoder.halting.score_weight)
    main(distil(places, tmp_path / "one", model__depth__halting_lr_factor=0.0, trainer__max_steps=1))
    one = AdaptiveAlbertModel.from_pretrained(tmp_path / "one/model").encoder.halting.score_weight
    torch.testing.assert_close(starts[0], one, rtol=0, atol=0)
    assert not torch.equal(starts[1], one)
