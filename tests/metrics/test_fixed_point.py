"""The fixed point's means against a direct computation from the states of the dense execution."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine

from depthlab.kinds import TokenKind
from depthlab.metrics import FixedPointMetric
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertModel
from tests.models.conftest import SIZES, ragged_inputs

CAP = 5
BATCHES = [[9, 4, 7], [3, 8], [2]]
WAYS = {
    "blend-truncate": {"act_update": "blend", "act_cap": "truncate"},
    "blend-remainder": {"act_update": "blend", "act_cap": "remainder"},
    "accumulate-truncate": {"act_update": "accumulate", "act_cap": "truncate"},
    "accumulate-remainder": {"act_update": "accumulate", "act_cap": "remainder"},
    "fixed": {"halting": "fixed"},
}


def build(way, execution="compact"):
    torch.manual_seed(0)
    way = {"initializer_range": 0.3, "halting_bias_init": -1.0, "execution": execution, **way}
    config = AdaptiveAlbertConfig(**SIZES, num_hidden_layers=CAP, **way)
    return AdaptiveAlbertModel(config, add_pooling_layer=False).double().eval()


def batches_of(seed=0):
    """Inputs with padding, and kinds [B, T]."""
    torch.manual_seed(seed)
    for lengths in BATCHES:
        inputs = ragged_inputs(lengths, extra_padding=1)
        kinds = torch.randint(TokenKind.PAD, inputs["input_ids"].shape)
        yield inputs, torch.where(inputs["attention_mask"] == 1, kinds, TokenKind.PAD)


def observe(model, batches):
    metric = FixedPointMetric(CAP)
    for inputs, kinds in batches:
        kinds = kinds.flatten().byte()

        def watch(it, kinds=kinds):
            metric.update(it.n, kinds[it.position], it.before, it.new, it.after)

        with torch.inference_mode():
            model(**inputs, observer=watch)
    return metric


def compute_token_by_token(model, batches):
    """From `output_hidden_states` of the dense execution, and HF's layer; scipy's cosine distance."""
    layer = model.encoder.albert_layer_groups[0].albert_layers[0]
    rows = []  # kind, n, still runs, the four measures
    for inputs, kinds in batches:
        with torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
            mask = torch.where(inputs["attention_mask"] == 1, 0.0, float("-inf")).double()[:, None, None, :]
            outputs = [layer(states, mask).numpy() for states in output.hidden_states[:-1]]
        states = [state.numpy() for state in output.hidden_states]
        for row, column in inputs["attention_mask"].nonzero().tolist():
            for n in range(1, CAP + 1):
                before, after, new = (h[row, column] for h in (states[n - 1], states[n], outputs[n - 1]))
                size = np.linalg.norm(before)
                measures = [(1 - cosine(before, h), abs(np.linalg.norm(h) - size) / size) for h in (after, new)]
                runs = output.depths[row, column].item() >= n
                rows.append((kinds[row, column].item(), n, runs, *measures[0], *measures[1]))
    table = np.array(rows)
    means = {}
    for kind in range(len(TokenKind)):
        for n in range(1, CAP + 1):
            here = table[(table[:, 0] == kind) & (table[:, 1] == n)]
            running = here[here[:, 2] == 1]
            for name, chosen, column in (
                ("fixed_point", here, 3),
                ("fixed_point_norm", here, 4),
                ("fixed_point_running", running, 3),
                ("fixed_point_norm_running", running, 4),
                ("fixed_point_layer", running, 5),
                ("fixed_point_norm_layer", running, 6),
            ):
                means.setdefault(name, np.full((len(TokenKind), CAP), np.nan))
                if len(chosen):
                    means[name][kind, n - 1] = chosen[:, column].mean()
            means.setdefault("fixed_point_tokens", np.zeros((len(TokenKind), CAP)))[kind, n - 1] = len(running)
    return means


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("execution", ["compact", "dense"])
def test_equals_the_states_of_the_dense_execution(way, execution):
    expected = compute_token_by_token(build(WAYS[way], "dense"), batches_of())
    actual = observe(build(WAYS[way], execution), batches_of()).compute()
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(actual[name].numpy(), values, rtol=1e-9, atol=1e-9, err_msg=name)
    assert (expected["fixed_point_tokens"][: TokenKind.PAD, 0] > 0).all(), "every kind occurs"
    if way != "fixed":
        assert np.ptp(expected["fixed_point_tokens"][TokenKind.PLAIN]) > 0, "depths differ"


def test_reset_and_half_precision():
    model = build(WAYS["accumulate-remainder"])
    metric = observe(model, batches_of(seed=1))
    metric.reset()  # in inference mode's tensors, and used outside
    before = torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16)
    after = torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16)
    metric.update(2, torch.tensor([TokenKind.SEP]), before, after, after)
    means = metric.compute()
    assert means["fixed_point_tokens"].sum() == 1
    assert means["fixed_point_running"][TokenKind.SEP, 1].item() == pytest.approx(0.6, rel=1e-6)
    assert means["fixed_point_norm_layer"][TokenKind.SEP, 1].item() == pytest.approx(4.0, rel=1e-6)


def test_rejects():
    with pytest.raises(ValueError, match="max_depth"):
        FixedPointMetric(0)
    with pytest.raises(IndexError):
        FixedPointMetric(2).update(3, torch.tensor([0]), *[torch.ones(1, 4)] * 3)
