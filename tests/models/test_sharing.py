"""One model, several threads: what a call asks for is its own."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from depthlab.models.halting.fixed import Fixed
from depthlab.models.imposed import impose
from tests.models.variants import BASE, batch, build, name_of

CALLS = 120


@pytest.mark.parametrize("way", [{}, {"execution": "dense"}, {"halting": "fixed"}], ids=name_of)
def test_calls_of_four_threads_are_as_alone(way):
    """Among them such as want attention weights or all states, watch, or bring a rule of their own."""
    model = build(BASE, attn_implementation="sdpa", **way)
    inputs = batch()
    seen = []
    deepest = inputs["attention_mask"] * 2
    options = [{}, {"output_attentions": True}, {"output_hidden_states": True}, {"observer": seen.append}]
    options.append({"halting_rule": Fixed()})
    if not way:
        options.append({"halting_rule": impose(model.config.rule, deepest)})

    @torch.no_grad()
    def call(number):
        return dict(model(**inputs, **options[number % len(options)]))

    alone = [call(number) for number in range(len(options))]
    watched = len(seen)
    assert len({str(output["depths"]) for output in alone}) == (1 if "halting" in way else 2 + (not way))
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(call, range(CALLS)))
    for number, output in enumerate(together):
        expected = alone[number % len(options)]
        assert output.keys() == expected.keys()
        assert all(_equal(output[name], expected[name]) for name in expected), options[number % len(options)]
    assert len(seen) == watched * (1 + CALLS // len(options)), "who watches sees its own calls"
    assert model.config._attn_implementation == "sdpa"


def _equal(one, other):
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return torch.equal(one, other)
