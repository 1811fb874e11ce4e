"""What the compact execution costs: its memory, its waits for the device; and dropout in it."""

import gc

import pytest
import torch

from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertModel
from tests.models.conftest import ragged_inputs
from tests.models.imposed import ImposedHalting


def imposed(sizes, depths, execution="compact", **changes):
    """A model, and inputs for it whose tokens halt at these depths."""
    config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=int(depths.max()), execution=execution, **changes)
    inputs = ragged_inputs((depths > 0).sum(dim=1).tolist())
    return AdaptiveAlbertModel(config, add_pooling_layer=False), inputs | {"halting_rule": ImposedHalting(depths)}


def random_depths(lengths, cap):
    depths = torch.randint(1, cap + 1, (len(lengths), max(lengths)))
    depths[0, 0] = cap
    return depths * (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def saved_bytes(model, inputs):
    """Bytes that autograd keeps for the backward pass, every storage once, parameters left out."""
    kept = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in kept:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(**inputs)
    total = sum(storages.values())
    del output
    return total


def test_memory_falls_with_mean_depth(sizes):
    sizes |= {"hidden_size": 64, "intermediate_size": 256}
    cap = 8
    shares = []
    for mean in (1, 3, 6, 8):
        depths = torch.full((8, 24), mean)
        depths[0, 0] = cap
        dense, compact = (saved_bytes(*imposed(sizes, depths, execution)) for execution in ("dense", "compact"))
        shares.append(compact / dense)
        # Each iteration also keeps everyone's keys and values, 2 of the about 16 rows of H that a token leaves behind.
        assert compact / dense < mean / cap + 0.25
    assert shares == sorted(shares)


@pytest.mark.parametrize("execution", ["dense", "compact"])
def test_nothing_stays_alive_after_a_step(sizes, execution):
    depths = random_depths([9, 4], 5)
    model, inputs = imposed(sizes, depths, execution)

    def alive():
        model.zero_grad()
        gc.collect()
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    model(**inputs).last_hidden_state.sum().backward()
    before = alive()
    for _ in range(3):
        model(**inputs).last_hidden_state.sum().backward()
    assert alive() == before


def test_waits_for_the_device_once_a_decision(sizes, monkeypatch):
    """What would wait for a GPU, counted here: reading values, and shapes that depend on them."""
    waits = []
    for name in ("tolist", "item", "nonzero", "__bool__", "__int__", "__float__", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(tensor, *args, _name=name, _original=original, **kwargs):
            waits.append(_name)
            return _original(tensor, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, counted)
    inputs = ragged_inputs([9, 4, 7])
    for cap in (2, 7):
        config = AdaptiveAlbertConfig(**sizes, num_hidden_layers=cap, halting_bias_init=-9.0)
        model = AdaptiveAlbertModel(config, add_pooling_layer=False)
        embeddings = model.embeddings(inputs["input_ids"])
        real = inputs["attention_mask"].bool()
        waits.clear()
        model.encoder(embeddings, real, None)
        assert sorted(waits) == sorted(
            ["nonzero", *["tolist"] * cap]
        )  # how many there are; who is left, but at the cap
    rule = {"halting": "route", "act_update": "accumulate"}
    model = AdaptiveAlbertModel(AdaptiveAlbertConfig(**sizes, num_hidden_layers=7, **rule), add_pooling_layer=False)
    waits.clear()
    model.encoder(embeddings, real, None)
    assert sorted(waits) == ["nonzero", "tolist", "tolist"]  # one decision, one look


@pytest.mark.full
def test_dropout_has_the_same_distribution(sizes):
    """Mean and variance of every state over 600 draws agree within five standard errors (Welch), dense and compact.

    The two draw in another order, so single draws cannot be compared.
    """
    depths = torch.tensor([[3, 1, 2, 3, 1], [2, 3, 1, 0, 0]])
    changes = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, "initializer_range": 0.3}
    model, inputs = imposed(sizes, depths, **changes)
    model.train()
    draws = {}
    for execution in ("dense", "compact"):
        model.config.execution = execution
        with torch.no_grad():
            draws[execution] = torch.stack([model(**inputs).last_hidden_state[depths > 0] for _ in range(600)]).double()
    one, other = draws["dense"], draws["compact"]
    assert one.var(dim=0).min() > 1e-4, "dropout is at work"
    for statistic in (lambda x: x, lambda x: (x - x.mean(dim=0)) ** 2):
        first, second = statistic(one), statistic(other)
        error = ((first.var(dim=0) + second.var(dim=0)) / len(one)).sqrt()
        assert ((first.mean(dim=0) - second.mean(dim=0)).abs() < 5 * error).all()


def test_bfloat16_agrees_away_from_the_threshold(sizes):
    """Imposed depths are far from the threshold, so only rounding differs."""
    depths = random_depths([12, 5], 6)
    model, inputs = imposed(sizes, depths)
    model.bfloat16()
    compact = model(**inputs).last_hidden_state
    model.config.execution = "dense"
    dense = model(**inputs).last_hidden_state
    torch.testing.assert_close(compact, dense, rtol=0.05, atol=0.05)
