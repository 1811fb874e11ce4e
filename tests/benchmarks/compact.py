"""How fast the compact execution is, against the dense one and against `transformers.AlbertModel` (`make bench`).

Depths are imposed, so that the work is known. Variants run in turn, A B C A B C ..., in one process; figures are
medians, to be read as ratios. Prints Markdown; run it on a quiet machine.
"""

import argparse
import csv
import functools
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AlbertForPreTraining, AlbertModel, DataCollatorForLanguageModeling

from depthlab.analysis.speed import SLOWEST_USABLE, matmul_speed, same_size
from depthlab.data.tokenization import load_tokenizer
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining, AdaptiveAlbertModel
from tests.models.imposed import ImposedHalting
from tests.support import SHARED, UNIGRAM

MODELS = {"tiny": (6, 3.8), "small": (12, 7.1), "base": (24, 10.0)}  # cap, mean depth: the paper's Table 1
VOCABULARY = 30_000
SST2 = SHARED / "glue/SST-2/dev.tsv"


def full_lengths() -> Tensor:
    """16 sequences of 128 tokens."""
    return torch.full((16,), 128)


def glue_lengths() -> Tensor:
    """64 sequences as long as SST-2's sentences with two specials; without the file, a log-normal of the same shape."""
    if SST2.exists():
        with SST2.open() as file:
            lengths = [len(row["sentence"].split()) + 2 for row in csv.DictReader(file, delimiter="\t", quoting=3)]
        return torch.tensor(lengths[:64])
    return torch.from_numpy(np.random.default_rng(0).lognormal(2.95, 0.5, 64)).long().clamp(4, 60)


def draw_depths(lengths: Tensor, cap: int, mean: float) -> Tensor:
    """[B, T] depths in 1..cap around this mean, widely spread (beta-binomial); 0 on padding."""
    generator = np.random.default_rng(0)
    share = (mean - 1) / (cap - 1)
    chance = generator.beta(2 * share, 2 * (1 - share), size=(len(lengths), int(lengths.max())))
    depths = torch.from_numpy(1 + generator.binomial(cap - 1, chance))
    return depths * (torch.arange(depths.shape[1]) < lengths[:, None])


def inputs_of(lengths: Tensor) -> dict[str, Tensor]:
    """Random ids and their mask."""
    real = torch.arange(int(lengths.max())) < lengths[:, None]
    return {"input_ids": torch.randint(5, VOCABULARY, real.shape) * real, "attention_mask": real.long()}


def medians(variants: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Seconds of each, run in turn after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def step(model: torch.nn.Module, inputs: dict[str, Any], backward: bool) -> None:
    """Forward, or forward and backward."""
    with torch.set_grad_enabled(backward):
        states = model(**inputs).last_hidden_state
    if backward:
        states.float().sum().backward()
        model.zero_grad()


def adaptive(execution: str, cap: int, dtype: torch.dtype, rank: int = 0) -> AdaptiveAlbertModel:
    """An ALBERT of base size."""
    config = AdaptiveAlbertConfig(num_hidden_layers=cap, execution=execution, relaxation_rank=rank)
    return AdaptiveAlbertModel(config).to(dtype).train()


def albert(layers: int, dtype: torch.dtype) -> AlbertModel:
    """HF's, of the same size."""
    return same_size(AdaptiveAlbertConfig(num_hidden_layers=layers)).to(dtype)


def bench_speed(dtype: torch.dtype, peak: float, rounds: int) -> None:
    """Points 0 to 3: no straw man, efficiency, against HF with 12 layers, useful FLOP/s."""
    print(
        "| lengths | model | pass | HF same cap / dense | efficiency | HF 12 layers / compact | useful / matmul |\n"
        "|---|---|---|---:|---:|---:|---:|"
    )
    for name_of_lengths, lengths in (("128", full_lengths()), ("GLUE-like", glue_lengths())):
        inputs = inputs_of(lengths)
        for name, (cap, mean) in MODELS.items():
            depths = draw_depths(lengths, cap, mean)
            mean = depths.sum().item() / lengths.sum().item()
            models = {
                "dense": adaptive("dense", cap, dtype),
                "compact": adaptive("compact", cap, dtype),
                "hf": albert(cap, dtype),
                "hf12": albert(12, dtype),
            }
            imposed = inputs | {"halting_rule": ImposedHalting(depths)}
            for backward in (False, True):
                runs = {
                    n: functools.partial(step, model, inputs if n.startswith("hf") else imposed, backward)
                    for n, model in models.items()
                }
                seconds = medians(runs, rounds)
                efficiency = seconds["dense"] / seconds["compact"] / (cap / mean)
                useful = int(models["compact"].flops(depths).sum()) * (3 if backward else 1) / seconds["compact"] / peak
                direction = "forward + backward" if backward else "forward"
                print(
                    f"| {name_of_lengths} | {name} {cap} / {mean:.2f} | {direction} "
                    f"| {seconds['hf'] / seconds['dense']:.2f} | {efficiency:.3f} "
                    f"| {seconds['hf12'] / seconds['compact']:.2f} | {useful:.2f} |",
                    flush=True,
                )


def bench_whole_step(dtypes: list[torch.dtype], rounds: int) -> None:
    """Point 4: from batch to optimiser, small model, against a plain script on HF's ALBERT."""
    cap, mean = MODELS["small"]
    lengths = full_lengths()
    depths = draw_depths(lengths, cap, mean)
    collate = DataCollatorForLanguageModeling(load_tokenizer(str(UNIGRAM)), mlm_probability=0.15)
    sequences = [{"input_ids": ids} for ids in inputs_of(lengths)["input_ids"]]
    order = torch.randint(0, 2, (len(lengths),))

    def trainer(model: torch.nn.Module, **settings: Any) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def run() -> None:
            batch = collate(sequences)
            model(**batch, sentence_order_label=order, **settings).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return run

    runs = {}
    for dtype in dtypes:
        ours = AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(num_hidden_layers=cap))
        runs[f"ours, {dtype}"] = trainer(ours.to(dtype).train(), halting_rule=ImposedHalting(depths))
        runs[f"HF, {dtype}"] = trainer(AlbertForPreTraining(albert(cap, dtype).config).to(dtype).train())
    seconds = medians(runs, rounds)
    print("\n| whole pre-training step, small, 16 x 128 | tokens / s | ratio to HF fp32 |\n|---|---:|---:|")
    for name, value in seconds.items():
        ratio = seconds["HF, torch.float32"] / value
        print(f"| {name} | {int(lengths.sum()) / value:.0f} | {ratio:.2f} |")


def bench_linearity(dtype: torch.dtype, rounds: int) -> None:
    """Point 5: the time of a step against mean depth, caps 6 to 24."""
    lengths = full_lengths()
    inputs = inputs_of(lengths)
    means, seconds = [], []
    for cap in (6, 12, 18, 24):
        for share in (0.3, 0.6, 0.9):
            depths = draw_depths(lengths, cap, 1 + share * (cap - 1))
            model, imposed = adaptive("compact", cap, dtype), inputs | {"halting_rule": ImposedHalting(depths)}
            means.append(depths.double().mean().item())
            seconds.append(medians({"step": functools.partial(step, model, imposed, True)}, rounds)["step"])
    slope, intercept = np.polyfit(means, seconds, 1)
    residual = np.var(np.array(seconds) - (slope * np.array(means) + intercept))
    print(
        f"\nstep time = {intercept:.3f} s + {slope:.3f} s x mean depth, R^2 = {1 - residual / np.var(seconds):.4f} "
        f"({len(means)} points, caps 6 to 24; the intercept is embeddings, projection and what is paid once a call)"
    )


def bench_relaxation(dtype: torch.dtype, rounds: int) -> None:
    """Point 6: what the differences of relaxed tying cost, in time and in operations, tiny model."""
    cap, mean = MODELS["tiny"]
    lengths = full_lengths()
    depths = draw_depths(lengths, cap, mean)
    inputs = inputs_of(lengths) | {"halting_rule": ImposedHalting(depths)}
    models = {rank: adaptive("compact", cap, dtype, rank) for rank in (0, 16, 64)}
    print("\n| relaxed tying, tiny, 16 x 128: ratio to rank 0 | operations | forward | forward + backward |")
    print("|---|---:|---:|---:|")
    operations = {rank: int(model.flops(depths).sum()) for rank, model in models.items()}
    seconds = [
        medians({str(rank): functools.partial(step, model, inputs, backward) for rank, model in models.items()}, rounds)
        for backward in (False, True)
    ]
    for rank in models:
        ratios = [operations[rank] / operations[0], *(times[str(rank)] / times["0"] for times in seconds)]
        print(f"| rank {rank} | {' | '.join(f'{ratio:.3f}' for ratio in ratios)} |", flush=True)


def bench_memory() -> None:
    """Point 7: peak resident memory of a training step, in processes of their own."""
    print("\n| peak memory of a step, over the loaded model's | dense MiB | compact MiB | ratio | mean / cap |")
    print("|---|---:|---:|---:|---:|")
    for name, (cap, mean) in MODELS.items():
        used = {}
        for execution in ("dense", "compact"):
            command = [sys.executable, "-m", "tests.benchmarks.compact", "--memory-of", execution, name]
            used[execution] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ratio = used["compact"] / used["dense"]
        print(f"| {name} | {used['dense']:.0f} | {used['compact']:.0f} | {ratio:.2f} | {mean / cap:.2f} |", flush=True)


def peak_mib() -> float:
    """Most memory that this process has had resident; Linux' own count, as `ru_maxrss` begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def memory_of(execution: str, name: str) -> None:
    """Print the MiB that a step needs beyond the loaded model."""
    cap, mean = MODELS[name]
    lengths = full_lengths()
    model = adaptive(execution, cap, torch.float32)
    inputs = inputs_of(lengths) | {"halting_rule": ImposedHalting(draw_depths(lengths, cap, mean))}
    before = peak_mib()
    step(model, inputs, backward=True)
    print(peak_mib() - before)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each comparison")
    parser.add_argument("--memory-of", nargs=2, metavar=("EXECUTION", "MODEL"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.memory_of:
        memory_of(*arguments.memory_of)
        return
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, rounds {arguments.rounds}"
    )
    base, cpu = AdaptiveAlbertConfig(), torch.device("cpu")
    peaks = {dtype: matmul_speed(base, dtype, cpu) for dtype in (torch.float32, torch.bfloat16)}
    usable = [dtype for dtype, peak in peaks.items() if peak > SLOWEST_USABLE * peaks[torch.float32]]
    for dtype, peak in peaks.items():
        print(f"\n{dtype}: matmul {peak / 1e9:.0f} GFLOP/s")
        if dtype in usable:
            bench_speed(dtype, peak, arguments.rounds)
        else:
            print("not measured: this processor has no arithmetic for it")
    bench_whole_step(usable, arguments.rounds)
    bench_linearity(torch.float32, arguments.rounds)
    bench_relaxation(torch.float32, arguments.rounds)
    bench_memory()


if __name__ == "__main__":
    main()
