"""What a training will take, in lines: `depthlab plan`. Formulas are those of `depthlab.analysis.costs`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.callbacks import Timer
from transformers import PreTrainedModel

from depthlab.analysis import costs
from depthlab.data.steps import StepDataModule, Volume
from depthlab.tasks import Task

NAN = math.nan
STORED = ("tokens", "sentences", "chunks", "grams")
"""Of a corpus."""
Line = tuple[str, str]
"""What it is, and what is said of it."""


@dataclass(frozen=True)
class Machine:
    """What a training is to run on; nan where it is not said."""

    devices: int = 1
    flops: float = NAN  # a second, that a device keeps up
    memory: float = NAN  # bytes of a device


@dataclass(frozen=True)
class Example:
    """What a run says of those like it; nan where it says nothing."""

    name: str = ""
    depth: float = NAN  # the mean of its curve
    steps_per_second: float = NAN


@dataclass(frozen=True)
class Plan:
    """Figures of one training; nan where they cannot be told."""

    parameters: int
    depth: float
    samples: float  # of an epoch
    length: float  # tokens of a sample
    steps: float
    epochs: float
    tokens: float
    step_flops: float
    flops: float
    states: tuple[int, int, int]  # bytes of weights, gradients, optimiser's state
    sequence: float  # bytes of activations of a sequence
    at_a_time: int  # sequences on a device
    pieces: int  # of a step on a device
    casts: int
    corpus: float
    run: float  # bytes of a run directory in the end
    hours: float

    @property
    def memory(self) -> float:
        """Bytes of a device."""
        return sum(self.states) + self.casts + self.at_a_time * self.sequence


def work_out(
    settings: Mapping[str, Any],
    task: Task,
    data: StepDataModule,
    volume: Volume | None,
    machine: Machine,
    example: Example,
    mean_depth: float | None = None,
) -> Plan:
    """Work it out.

    Args:
        settings: all of the experiment's.
        task: with its model.
        data: its batch, and how it is cut.
        volume: what there is to train on; None where that is not known.
        machine: what is to be trained on.
        example: a run of which depth and pace are expected.
        mean_depth: the depth that is expected, in place of the example's; at most the cap, which is the last resort.
    """
    model: PreTrainedModel = task.model
    trainer, given = settings["trainer"], settings["model"]
    mixed = str(trainer["precision"]).endswith("mixed")
    length = volume.length if volume is not None else float(data.max_length)
    cap = task.cap or 1
    depth = min(cap, next(d for d in (mean_depth, example.depth, float(cap)) if d is not None and not math.isnan(d)))
    if task.cap is not None and not model.config.rule.chooses(training=True):
        depth = float(cap)
    predicted = math.ceil(length * getattr(data, "mask_ratio", 0))
    predicted = min(predicted, getattr(data, "max_predictions", None) or predicted)
    forwards = 2 if given.get("depth_control") else 1

    def step_flops(mean: float) -> float:
        depths = costs.spread_depths(mean, cap, round(length))
        return data.batch_size * costs.training_flops(model, depths, predicted, forwards)

    samples = NAN if volume is None else float(volume.samples)
    per_epoch = math.ceil(samples / data.batch_size) if samples == samples else NAN
    at_most = _seconds(trainer["max_time"])
    pace = machine.flops * machine.devices / step_flops(depth) if machine.flops == machine.flops else NAN
    pace = pace if pace == pace else example.steps_per_second
    steps = _first_of(_limit(trainer["max_steps"]), _limit(trainer["max_epochs"]) * per_epoch, at_most * pace)
    fixed = min(steps, given.get("fixed_depth_steps", 0) or 0) if steps == steps else 0
    flops = fixed * step_flops(float(given.get("fixed_depth") or cap)) + (steps - fixed) * step_flops(depth)
    duration = flops / (machine.flops * machine.devices) if machine.flops == machine.flops else steps / pace
    pieces = trainer["accumulate_grad_batches"]
    pieces = data.pieces(machine.devices) if pieces == 1 else pieces

    parameters = costs.parameter_count(model)
    optimizer = costs.optimizer_bytes(model, task.optimizer)
    states = (costs.FP32 * parameters, costs.FP32 * parameters, optimizer)
    saved = states[0] + optimizer
    text = {} if volume is None else volume.text
    on_cpu = trainer["accelerator"] == "cpu"
    deepest = max(depth, given.get("fixed_depth") or cap) if fixed else depth
    return Plan(
        parameters=parameters,
        depth=depth,
        samples=samples,
        length=length,
        steps=steps,
        epochs=steps / per_epoch,
        tokens=steps * data.batch_size * length,
        step_flops=step_flops(depth),
        flops=flops,
        states=states,
        sequence=costs.activation_bytes(
            model, costs.spread_depths(deepest, cap, data.max_length), predicted, mixed, on_cpu
        ),
        at_a_time=max(1, data.batch_size // (machine.devices * pieces)),
        pieces=pieces,
        casts=costs.cast_bytes(model, mixed),
        corpus=costs.corpus_bytes(*(text[name] for name in STORED), data.vocab_size) if text else NAN,
        run=saved * (CHECKPOINTS + (task.monitor is not None)) + (states[0] if task.cap is not None else 0),
        hours=_first_of(at_most, duration) / 3600,
    )


CHECKPOINTS = 2
"""Of its states a run keeps so many: the last and the one before; on top come the best where the task has one, and the
exported model."""


def lines(
    plan: Plan, volume: Volume | None, machine: Machine, example: Example, mean_depth: float | None
) -> list[Line]:
    """A plan for people."""
    source = "as given" if mean_depth is not None else f"as {example.name}" if example.depth == example.depth else ""
    weights, gradients, optimizer = plan.states
    activations = plan.at_a_time * plan.sequence
    found = [
        ("parameters", f"{plan.parameters:,}"),
        ("samples an epoch", "not known" if volume is None else f"{plan.samples:,.0f} ({volume.how})"),
        ("tokens a sample", f"{plan.length:.1f}" if volume is not None else f"at most {plan.length:.0f}"),
        ("steps", _said(plan.steps, ",.0f")),
        ("epochs", _said(plan.epochs, ".2f")),
        ("tokens", _said(plan.tokens, ",.0f")),
        ("mean depth", f"{plan.depth:.2f} ({source or 'the cap, so at most: give --mean_depth, or --like RUN'})"),
        ("FLOPs a step", _said(plan.step_flops, ".3g")),
        ("FLOPs in all", _said(plan.flops, ".3g")),
        ("memory of a device", f"{_bytes(plan.memory)}{_fits(plan, machine)}"),
        ("  weights", _bytes(weights + plan.casts)),
        ("  gradients", _bytes(gradients)),
        ("  optimiser", _bytes(optimizer)),
        ("  activations", f"{_bytes(activations)}, {plan.at_a_time} at a time of {_bytes(plan.sequence)} each"),
        ("pieces of a step", f"{plan.pieces} on each of {machine.devices} device{'s' * (machine.devices > 1)}"),
        ("prepared corpus", _bytes(plan.corpus)),
        ("run directory", f"{_bytes(plan.run)}, and its logs"),
    ]
    if machine.flops == machine.flops:
        found.append(("hours", f"{_hours(plan.hours)} at {machine.flops:.3g} FLOP/s a device"))
    elif plan.hours == plan.hours:
        as_fast = f", as fast as {example.name}" if example.steps_per_second > 0 else ""
        found.append(("hours", f"{_hours(plan.hours)}{as_fast}"))
    else:
        found.append(("hours", "not known: give --flops, --like RUN, or --measure"))
    return found if plan.corpus == plan.corpus else [line for line in found if line[0] != "prepared corpus"]


def sum_lines(plans: Sequence[Plan]) -> list[Line]:
    """Of all cells of a sweep."""
    return [
        ("cells", f"{len(plans):,}"),
        ("steps", _said(sum(cell.steps for cell in plans), ",.0f")),
        ("tokens", _said(sum(cell.tokens for cell in plans), ",.0f")),
        ("FLOPs in all", _said(sum(cell.flops for cell in plans), ".3g")),
        ("memory of a device", f"{_bytes(max(cell.memory for cell in plans))} for the largest"),
        ("run directories", _bytes(sum(cell.run for cell in plans))),
        ("hours", _hours(sum(cell.hours for cell in plans))),
    ]


def _limit(value: int | None) -> float:
    """Of a trainer, who says "none" in two ways."""
    return math.inf if value is None or value < 0 else float(value)


def _seconds(max_time: Any) -> float:
    """As Lightning reads it; infinite where it is no budget."""
    remaining = Timer(max_time).time_remaining()
    return math.inf if remaining is None else remaining


def _first_of(*ends: float) -> float:
    """The budget that ends first; nan where none is known."""
    known = [end for end in ends if not math.isnan(end) and not math.isinf(end)]
    return min(known) if known else NAN


def _fits(plan: Plan, machine: Machine) -> str:
    if machine.memory != machine.memory or plan.memory != plan.memory:
        return ""
    room = (machine.memory - sum(plan.states) - plan.casts) / plan.sequence
    verdict = "fits" if plan.memory <= machine.memory else "DOES NOT FIT"
    return f": {verdict} into {_bytes(machine.memory)}, which hold {max(0, math.floor(room)):,} sequences at a time"


def _said(value: float, form: str) -> str:
    return "not known" if value != value else format(value, form)


def _hours(value: float) -> str:
    return _said(value, ",.1f" if value >= 1 else ".3f")


def _bytes(value: float) -> str:
    if value != value:
        return "not known"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
