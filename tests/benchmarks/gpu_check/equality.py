"""Is the compact execution the dense one, on this device, in its dtypes?"""

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from depthlab.models import AdaptiveAlbertModel
from tests.benchmarks.gpu_check.bench import Bench

ROUTE = {"halting": "route", "act_update": "accumulate"}
CASES = {  # whose depths do not hang on rounding: imposed, or decided by a new router, to which all tokens are equal
    "act": {},
    "act, accumulate": {"act_update": "accumulate", "act_cap": "remainder"},
    "act, relaxed": {"relaxation_rank": 8},
    "act, untied": {"untied": True},
    "route": ROUTE,
    "route, relaxed": {**ROUTE, "relaxation_rank": 8},
    "route, untied": {**ROUTE, "untied": True},
}
PRECISIONS = {"fp32": torch.float32, "bf16-mixed": torch.float32, "bf16": torch.bfloat16}
WORSE, SLACK = 2, 1e-6
"""How much larger than the dense execution's own error the compact one's may be."""


def check(bench: Bench) -> None:
    """Both executions against the dense one in fp64; the compact one must be no worse than the dense.

    An error is the largest of all elements, over the largest element of the reference.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    batch = 8 if bench.on_gpu else 3
    lengths = torch.linspace(bench.length // 4, bench.length, batch).long()
    depths = bench.depths(batch, lengths)
    inputs, imposed = bench.inputs(depths), bench.imposed(depths)
    bench.say(
        "Largest error against the dense execution in fp64, over the largest element there. Gradients: of all",
        "parameters, each over its own largest.",
        "",
        "| model | precision | states: dense | compact | gradients: dense | compact | without gradients: compact | |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    )
    for name, changes in CASES.items():
        model = bench.ours(**changes)
        given = inputs if "halting" in changes else imposed
        _make_iterations_differ(model)
        states, gradients = _run(copy.deepcopy(model).double(), "dense", given, True)
        for precision, dtype in PRECISIONS.items():
            errors = {}
            for execution in ("dense", "compact"):
                found = _run(copy.deepcopy(model).to(dtype), execution, given, True, precision == "bf16-mixed")
                errors[execution] = _error(found[0], states), _largest(found[1], gradients)
            alone, _ = _run(copy.deepcopy(model).to(dtype), "compact", given, False, precision == "bf16-mixed")
            (dense, dense_gradient), (compact, gradient) = errors["dense"], errors["compact"]
            pairs = ((compact, dense), (gradient, dense_gradient), (_error(alone, states), dense))
            good = all(ours <= WORSE * other + SLACK for ours, other in pairs)
            numbers = (dense, compact, dense_gradient, gradient, pairs[2][0])
            cells = " | ".join(f"{number:.1e}" for number in numbers)
            bench.say(f"| {name} | {precision} | {cells} | {'equal' if good else '**differs**'} |")
    _own_unit(bench, inputs)


def _make_iterations_differ(model: AdaptiveAlbertModel) -> None:
    """By as much as the layer's own weights: larger differences turn rounding into chaos within 24 iterations."""
    for name, parameter in model.named_parameters():
        if "relaxation" in name:
            torch.nn.init.normal_(parameter, std=model.config.initializer_range)


def _own_unit(bench: Bench, inputs: dict[str, Tensor]) -> None:
    """Depths by a halting unit of its own: those near the threshold hang on rounding."""
    model = bench.ours(halting_bias_init=-2.0 if bench.on_gpu else -0.5, initializer_range=0.05)
    bench.say("")
    for precision, dtype in PRECISIONS.items():
        depths = []
        for execution in ("dense", "compact"):
            model.config.execution = execution
            with torch.no_grad(), _autocast(bench.device.type, precision == "bf16-mixed"):
                depths.append(copy.deepcopy(model).to(dtype)(**inputs).depths)
        real = depths[0] > 0
        other = int((depths[0] != depths[1]).sum())
        bench.say(
            f"- By its own halting unit, {precision}: {other} of {int(real.sum())} tokens have another depth in the "
            f"compact execution than in the dense one (mean depth {depths[0][real].double().mean():.2f})."
        )


def _autocast(device: str, mixed: bool):
    return torch.autocast(device, torch.bfloat16) if mixed else nullcontext()


def _run(
    model: AdaptiveAlbertModel, execution: str, inputs: dict[str, Any], backward: bool, mixed: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """States of the real tokens, and gradients of a weighted sum of them."""
    model.config.execution = execution
    with torch.set_grad_enabled(backward), _autocast(inputs["input_ids"].device.type, mixed):
        states = model(**inputs).last_hidden_state
    if backward:
        generator = torch.Generator().manual_seed(1)
        (states * torch.randn(states.shape, generator=generator).to(states)).sum().backward()
    gradients = {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}
    return states.detach().double(), gradients


def _error(found: Tensor, reference: Tensor) -> float:
    return ((found - reference).abs().max() / reference.abs().max()).item()


def _largest(found: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Over all parameters but the keys' bias, on which nothing depends: its gradient is rounding."""
    assert found.keys() == reference.keys(), "other parameters have a gradient"
    there = {name: g for name, g in reference.items() if not name.endswith("key.bias") and g.any()}
    return max(_error(found[name], gradient) for name, gradient in there.items())
