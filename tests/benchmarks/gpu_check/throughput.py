"""Tokens per second and peak memory: dense, compact, and Hugging Face's ALBERT."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.benchmarks.gpu_check.bench import Bench

BATCHES = (64, 512, 128, 256)
"""The ends first, in case that time runs out."""
A_ROW = {False: 4.0, True: 25.0}
"""Seconds that a row needs on a GPU, at least; with a compiler, more."""


def check(bench: Bench) -> None:
    """Training in bf16-mixed, inference in bf16; depths are imposed, so the work is known."""
    _table(bench, BATCHES if bench.on_gpu else (2, 4), compiled=False)


def check_compiled(bench: Bench) -> None:
    """The same with the shared layer compiled."""
    _table(bench, BATCHES[:2] if bench.on_gpu else (2,), compiled=True)


def _table(bench: Bench, batches: tuple[int, ...], compiled: bool) -> None:
    depths = bench.depths(batches[0])
    mean = depths.double().mean().item()
    bench.say(
        f"Base size, cap {bench.cap}, mean depth {mean:.2f}, sequences of {bench.length} tokens; training (forward + "
        "backward, no optimiser) in bf16-mixed, inference in bf16. Ratio: to dense; the ideal is",
        f"cap / mean depth = {bench.cap / mean:.2f}. TFLOP/s: as `flops` counts the execution's own."
        + (" Compiled: the shared layer, by `torch.compile`." if compiled else ""),
        "",
        "| pass | batch | model | tokens / s | ratio | efficiency | TFLOP/s | peak GiB |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    )
    for batch in batches:
        for training in (True, False):
            _rows(bench, batch, training, compiled)


def _rows(bench: Bench, batch: int, training: bool, compiled: bool) -> None:
    """Of all models, in one setting."""
    depths = bench.depths(batch)
    inputs = {"Hugging Face": bench.inputs(depths)}
    makers: dict[str, Callable[[], nn.Module]] = {
        "dense": functools.partial(bench.ours, execution="dense"),
        "compact": functools.partial(bench.ours, execution="compact"),
        "Hugging Face": bench.theirs,
    }
    base = None
    for name, make in makers.items():
        if bench.on_gpu and bench.left < A_ROW[compiled]:
            bench.say(f"| {_pass(training)} | {batch} | {name} | left out: no time | | | | |")
            continue
        model = make() if training else make().bfloat16()
        model.train(training)
        step = functools.partial(_step, model, inputs.get(name, bench.imposed(depths)), training)
        if bench.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            if compiled:
                _compile(model, name)
            seconds = bench.seconds(step)
        except torch.OutOfMemoryError:
            bench.say(f"| {_pass(training)} | {batch} | {name} | out of memory | | | | |")
            continue
        except Exception as error:  # a compiler's, of any kind
            bench.say(f"| {_pass(training)} | {batch} | {name} | {type(error).__name__}: {_short(error)} | | | | |")
            continue
        base = seconds if name == "dense" else base
        memory = torch.cuda.max_memory_allocated() / 2**30 if bench.on_gpu else float("nan")
        ratio = base / seconds if base else float("nan")
        ideal = bench.cap / depths.double().mean().item()
        efficiency = f"{ratio / ideal:.2f}" if name == "compact" else ""
        operations = int(model.flops(depths).sum()) * (3 if training else 1) if name != "Hugging Face" else 0
        bench.say(
            f"| {_pass(training)} | {batch} | {name}{', compiled' if compiled else ''} "
            f"| {depths.numel() / seconds:,.0f} | {ratio:.2f} | {efficiency} "
            f"| {f'{operations / seconds / 1e12:.0f}' if operations else ''} | {memory:.1f} |"
        )
        del model, step


def _compile(model: nn.Module, name: str) -> None:
    """Of the compact execution an iteration, as the model has it; of the others the layer, as all 24 take minutes."""
    (model if name == "compact" else model.encoder.albert_layer_groups[0].albert_layers[0]).compile()


def _pass(training: bool) -> str:
    return "training" if training else "inference"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120].replace("|", "/")


def _step(model: nn.Module, inputs: dict[str, Any], training: bool) -> None:
    if not training:
        with torch.inference_mode():
            model(**inputs)
        return
    with torch.autocast(inputs["input_ids"].device.type, torch.bfloat16):
        states = model(**inputs).last_hidden_state
    states.sum().backward()
    model.zero_grad()
