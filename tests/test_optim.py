import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AlbertConfig, AlbertForPreTraining

from depthlab.errors import UserError
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.optim import Lamb, MuonWithAdamW, parameter_groups, warmup_polynomial_decay
from tests.models.conftest import SIZES


def albert_step(p, g, m, v, lr, beta1, beta2, eps, weight_decay, trust_ratio):
    """One update of one tensor by google-research/albert's lamb_optimizer.py, in numpy and float64."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    update = m / (np.sqrt(v) + eps) + weight_decay * p
    ratio = 1.0
    if trust_ratio:
        p_norm, update_norm = math.sqrt((p**2).sum()), math.sqrt((update**2).sum())
        if p_norm > 0 and update_norm > 0:
            ratio = p_norm / update_norm
    return p - lr * ratio * update, m, v


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.full_layer_layer_norm = nn.LayerNorm(6)
        self.dense = nn.Linear(6, 5)

    def loss(self, seed):
        tokens = torch.randint(0, 11, (4, 7), generator=torch.Generator().manual_seed(seed))
        logits = self.dense(self.full_layer_layer_norm(self.embedding(tokens)))
        return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten() % 5)


EXCLUDED = {"full_layer_layer_norm.weight", "full_layer_layer_norm.bias", "dense.bias"}


def make_tagger():
    torch.manual_seed(0)
    return Tagger()


def train(model, optimizer, seeds, schedule=None):
    for seed in seeds:
        optimizer.zero_grad()
        model.loss(seed).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


def test_twenty_steps_are_alberts_exclusions_and_schedule_included():
    model = make_tagger()
    lr, warmup, total = 0.05, 5, 20
    optimizer = Lamb(parameter_groups(model), lr=lr)
    schedule = warmup_polynomial_decay(optimizer, warmup, total)
    start = {name: parameter.detach().double().numpy().copy() for name, parameter in model.named_parameters()}
    expected = {name: (p, 0.0, 0.0) for name, p in start.items()}  # and the two means
    for s in range(total):
        optimizer.zero_grad()
        model.loss(seed=s).backward()
        rate = lr * s / warmup if s < warmup else lr * (1 - s / total)
        for name, parameter in model.named_parameters():
            p, m, v = expected[name]
            g = parameter.grad.double().numpy()
            weight_decay, trust_ratio = (0, False) if name in EXCLUDED else (0.01, True)
            expected[name] = albert_step(p, g, m, v, rate, 0.9, 0.999, 1e-6, weight_decay, trust_ratio)
        optimizer.step()
        schedule.step()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name][0], rtol=1e-6, atol=1e-6, err_msg=name)
        assert np.abs(expected[name][0] - start[name]).max() > 0.01, "the test must be able to fail"


norms = st.sampled_from([0.0, 1e-3, 1.0, 30.0])


@given(
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=3),
    parameter_scale=norms,
    gradient_scale=norms,
    lr=st.floats(0, 0.1),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.999)),
    eps=st.sampled_from([1e-8, 1e-6, 1e-2]),
    weight_decay=st.sampled_from([0.0, 0.01, 0.3]),
    trust_ratio=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_single_steps(shape, parameter_scale, gradient_scale, lr, betas, eps, weight_decay, trust_ratio, seed):
    rng = np.random.default_rng(seed)
    p, g = rng.normal(size=shape) * parameter_scale, rng.normal(size=shape) * gradient_scale
    parameter = nn.Parameter(torch.tensor(p))  # a copy
    group = {"params": [parameter], "trust_ratio": trust_ratio}
    optimizer = Lamb([group], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    m = v = 0.0
    for gradient in (g, g**3 / 10):
        parameter.grad = torch.as_tensor(gradient)
        optimizer.step()
        p, m, v = albert_step(p, gradient, m, v, lr, *betas, eps, weight_decay, trust_ratio)
    # Its norms are fp32.
    np.testing.assert_allclose(parameter.detach().numpy(), p, rtol=1e-5, atol=1e-6 * max(parameter_scale, 1e-3))


def test_half_precision_norms_do_not_overflow():
    parameter = nn.Parameter(torch.full((4096,), 2000.0, dtype=torch.float16))  # its norm is 128,000
    parameter.grad = torch.ones_like(parameter)
    Lamb([parameter], lr=0.01, weight_decay=0.0).step()
    torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, 1980.0))


def test_parameters_without_gradient_stay():
    with_gradient, without = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with_gradient.grad = torch.ones(2)
    optimizer = Lamb([with_gradient, without])
    optimizer.step()
    assert without.tolist() == [1, 1] and without not in optimizer.state
    assert with_gradient.tolist() != [1, 1]


@pytest.mark.parametrize("kind", [Lamb, MuonWithAdamW])
def test_closure_runs_with_gradients(kind):
    layer = nn.Linear(3, 16)  # a matrix and a vector: one for each part of MuonWithAdamW
    start = [parameter.detach().clone() for parameter in layer.parameters()]

    def closure():
        loss = sum(parameter.sum() for parameter in layer.parameters())
        loss.backward()
        return loss

    loss = kind(parameter_groups(layer), lr=0.1).step(closure)
    assert loss.item() == pytest.approx(sum(parameter.sum().item() for parameter in start), abs=1e-5)
    assert not any(torch.equal(a, b) for a, b in zip(layer.parameters(), start, strict=True))


@pytest.mark.parametrize("kind", [Lamb, MuonWithAdamW])
def test_resumes_from_its_state(kind):
    def start():
        model = make_tagger()
        optimizer = kind(parameter_groups(model), lr=0.05)
        return model, optimizer, warmup_polynomial_decay(optimizer, 4, 12)

    straight, optimizer, schedule = start()
    train(straight, optimizer, range(12), schedule)

    stopped, optimizer, schedule = start()
    train(stopped, optimizer, range(6), schedule)
    saved = stopped.state_dict(), optimizer.state_dict(), schedule.state_dict()
    resumed, optimizer, schedule = start()
    for part, state in zip((resumed, optimizer, schedule), saved, strict=True):
        part.load_state_dict(state)
    train(resumed, optimizer, range(6, 12), schedule)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize(
    "arguments",
    [{"lr": -1}, {"lr": math.nan}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"eps": 0}, {"weight_decay": -0.1}],
)
def test_lamb_rejects(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        Lamb([nn.Parameter(torch.ones(1))], **arguments)


def test_groups_of_hf_albert():
    model = AlbertForPreTraining(AlbertConfig(**SIZES, num_hidden_layers=2))
    assert model.predictions.decoder.weight is model.albert.embeddings.word_embeddings.weight
    model.albert.embeddings.position_embeddings.weight.requires_grad = False
    names = {parameter: name for name, parameter in model.named_parameters()}
    hidden, rest, excluded = ([names[p] for p in group["params"]] for group in parameter_groups(model))
    assert sorted(hidden + rest + excluded) == sorted(n for n in names.values() if "position_embeddings" not in n)
    # ALBERT's own rule, a pattern on the name.
    assert set(excluded) == {n for n in names.values() if "layer_norm" in n or "LayerNorm" in n or "bias" in n}
    assert any("full_layer_layer_norm.weight" in name for name in excluded)


def test_groups_go_by_the_type_of_layer_norm_and_by_shape():
    module = nn.ModuleDict({"a": nn.LayerNorm((2, 3)), "b": nn.MultiheadAttention(4, 2), "c": nn.PReLU(3)})
    hidden, main, excluded = parameter_groups(module)
    assert not hidden["params"]  # the layers here have few outputs
    assert {id(p) for p in main["params"]} == {id(module["b"].in_proj_weight), id(module["b"].out_proj.weight)}
    assert len(excluded["params"]) == 5
    assert (excluded["weight_decay"], excluded["trust_ratio"]) == (0, False)
    assert set(main) == {"params"}


def make_albert():
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    return AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(vocab_size=30, num_hidden_layers=2, **sizes)).eval()


def test_hidden_matrices_are_those_between_states():
    model = make_albert()
    names = {parameter: name for name, parameter in model.named_parameters()}
    hidden, rest, _ = ([names[p] for p in group["params"]] for group in parameter_groups(model))
    layer = "albert.encoder.albert_layer_groups.0.albert_layers.0."
    inside = ["attention.query", "attention.key", "attention.value", "attention.dense", "ffn", "ffn_output"]
    outside = ["albert.encoder.embedding_hidden_mapping_in", "albert.pooler"]
    assert set(hidden) == {f"{name}.weight" for name in [*(layer + part for part in inside), *outside]}
    embeddings = [f"albert.embeddings.{name}_embeddings" for name in ("word", "position", "token_type")]
    # The MLM head's dense layer has E = 8 outputs here.
    heads = ["albert.encoder.halting", "sop_classifier.classifier", "predictions.dense"]
    assert set(rest) == {f"{name}.weight" for name in [*embeddings, *heads]}


def test_muon_steps_along_the_orthogonal_factor_and_adamw_does_the_rest():
    model, lr = make_albert(), 0.01
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = MuonWithAdamW(parameter_groups(model), lr=lr, weight_decay=0.0)
    schedule = warmup_polynomial_decay(optimizer, 0, 2)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        size = rng.uniform(0.1, 1, parameter.shape) * rng.choice([-1, 1], parameter.shape)
        parameter.grad = torch.tensor(size, dtype=torch.float32)
    optimizer.step()
    schedule.step()
    hidden = set(parameter_groups(model)[0]["params"])
    for name, parameter in model.named_parameters():
        step = (start[name] - parameter.detach()).double().numpy()
        if parameter in hidden:
            u, _, v = np.linalg.svd(parameter.grad.double().numpy(), full_matrices=False)
            # Newton-Schulz as Muon has it brings singular values near 1, not to it.
            values = np.diag(u.T @ step @ v.T) / (lr * 0.2 * math.sqrt(max(parameter.shape)))
            assert values.min() > 0.6 and values.max() < 1.3, name
            np.testing.assert_allclose(u.T @ step @ v.T, np.diag(np.diag(u.T @ step @ v.T)), atol=0.1 * lr)
        else:  # a first step of Adam's is the sign of the gradient
            np.testing.assert_allclose(step, lr * np.sign(parameter.grad.numpy()), rtol=1e-3, atol=1e-6, err_msg=name)
    assert {group["lr"] for group in optimizer.param_groups} == {lr / 2}


def test_muon_with_adamw_is_torchs_two():
    model, twin = make_albert(), make_albert()
    hidden, rest, excluded = parameter_groups(twin)
    muon = torch.optim.Muon([hidden], lr=0.02, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([rest, excluded], lr=0.02, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1)
    both = MuonWithAdamW(parameter_groups(model), 0.02, (0.8, 0.9), 1e-6, 0.1, 0.9)
    for seed in range(3):
        tokens = torch.randint(1, 30, (4, 7), generator=torch.Generator().manual_seed(seed))
        for optimizers, trained in (([both], model), ([muon, adamw], twin)):
            outputs = trained(tokens, labels=tokens, sentence_order_label=torch.tensor([0, 1, 1, 0]))
            (outputs.loss + outputs.ponder_cost.mean()).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@given(warmup=st.integers(0, 30), total=st.integers(1, 30), peak=st.floats(1e-6, 1))
def test_schedule(warmup, total, peak):
    groups = [{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2)]
    optimizer = torch.optim.SGD(groups, lr=peak)
    schedule = warmup_polynomial_decay(optimizer, warmup, total, lasting={1})
    rates, lasting = [], []
    for _ in range(max(total, warmup) + 3):
        rates.append(optimizer.param_groups[0]["lr"])
        lasting.append(optimizer.param_groups[1]["lr"])
        optimizer.step()
        schedule.step()
    rising = peak * np.linspace(0, 1, warmup, endpoint=False)
    falling = peak * np.linspace(1, 0, total + 1)[warmup:]  # from 1 after no update to 0 after the last
    expected = np.concatenate([rising, falling, np.zeros(len(rates))])[: len(rates)]
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-12 * peak)
    np.testing.assert_allclose(lasting, [*rising, *[peak] * len(rates)][: len(rates)], rtol=1e-9)
    assert min(rates) >= 0
    assert rates[0] == (0 if warmup else peak), "only a warm-up has a void update, its first"
    assert all(rate > 0 for rate in rates[1:total])


@given(
    warmup=st.integers(0, 10),
    total=st.one_of(st.just(math.inf), st.integers(1, 40)),
    share=st.floats(0.05, 1),
    pace=st.floats(0.01, 0.2),
)
def test_constant_until_the_last_share_of_the_budget(warmup, total, share, pace):
    """Against the corners of the curve: time passes at an even pace, and ends the run where steps do not."""
    updates = 0
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)
    schedule = warmup_polynomial_decay(optimizer, warmup, total, share, lambda: updates * pace)
    end = min(total, 1 / pace)
    for updates in range(1, 60):
        optimizer.step()
        schedule.step()
        rising, flat_then_falling = [0, warmup], [0, (1 - share) * end, end]
        corners = (rising, [0, 2.0]) if updates < warmup else (flat_then_falling, [2.0, 2.0, 0])
        assert optimizer.param_groups[0]["lr"] == pytest.approx(np.interp(updates, *corners), abs=1e-9)


BAD_SCHEDULES = {"warmup_steps": (-1, 5), "total_steps": (0, 0), "decay_share": (0, 5, 0.0)}


@pytest.mark.parametrize("field", BAD_SCHEDULES)
def test_schedule_rejects(field):
    with pytest.raises(UserError, match=field):
        warmup_polynomial_decay(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0), *BAD_SCHEDULES[field])
