"""How fast a model is on one's own sentences, in its executions and beside others: latency, throughput, memory."""

import functools
import importlib.util
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel, PreTrainedTokenizerBase

from depthlab.errors import UserError, notice_once
from depthlab.models.albert import AdaptiveAlbertConfig, AdaptiveAlbertModel

Engine = Literal["compact", "dense", "fixed", "transformers", "onnxruntime"]
ENGINES: tuple[Engine, ...] = ("compact", "dense", "fixed", "transformers", "onnxruntime")
"""Both executions; every token up to the cap; Hugging Face's ALBERT or BERT of the same sizes, which does that; and the
compact execution as an ONNX graph."""
Dtype = Literal["float32", "float16", "bfloat16", "int8"]
OF_ONNXRUNTIME = ("float32", "int8")
"""Its dtypes; nothing else runs in int8."""
Batch = Mapping[str, Tensor]

SLOWEST_USABLE = 0.1
"""A dtype in which matrix products run at less than this share of fp32's speed has no hardware behind it."""
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""What Linux says of a processor that counts for matrix products."""
ROWS = 2048
"""Of the matrix product that speeds are held against."""


@dataclass(frozen=True)
class Speed:
    """What one engine does in one dtype with batches of one size."""

    engine: Engine
    dtype: Dtype
    batch: int
    p50: float
    """Milliseconds that half of the batches took at most."""
    p95: float
    sentences: float
    """Per second."""
    tokens: float
    """Per second, special ones included, padding not."""
    depth: float
    """Mean, of tokens that are no padding."""
    token_iterations: float
    """Per second: those computed, of such tokens."""
    share: float
    """Operations a second, of real tokens, over those of a matrix product in this dtype; in int8, in float32."""
    memory: float | None
    """MiB of tensors that its largest batch has at once, beside the weights; None where torch does not hold them."""


class Runner(NamedTuple):
    """An engine, ready to run."""

    run: Callable[[Batch], Tensor | None]
    """Gives depths [B, T], where it has them."""
    work: Callable[[Tensor], tuple[int, int]]
    """Token-iterations and floating point operations that are computed for depths [B, T] of a batch."""


def batches(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], size: int, longest: int, device: torch.device
) -> list[Batch]:
    """The texts in their order, so many at a time, padded to the longest of each batch."""
    settings = {"padding": True, "truncation": True, "max_length": longest, "return_token_type_ids": True}
    parts = (list(texts[first : first + size]) for first in range(0, len(texts), size))
    return [tokenizer(part, return_tensors="pt", **settings).to(device) for part in parts]


def runners(model: AdaptiveAlbertModel, engines: Iterable[Engine], dtype: Dtype) -> dict[Engine, Runner]:
    """Of a model in evaluation mode, in this dtype (in float32 for int8); those that there are.

    There is none of Hugging Face's where iterations differ in part. onnxruntime has to be installed, runs on a CPU, and
    has not every model. Why one is missing is said.
    """
    found: dict[Engine, Runner] = {}
    for engine in engines:
        if engine == "onnxruntime":
            run = _onnx_run(model, dtype) if dtype in OF_ONNXRUNTIME else None
            if run is not None:
                found[engine] = Runner(run, functools.partial(_work, model, "compact"))
        elif dtype == "int8":
            continue
        elif engine == "transformers":
            other = same_size(model.config)
            if other is not None:
                other = other.eval().to(model.device, model.dtype)
                found[engine] = Runner(functools.partial(_run_other, other), functools.partial(_work, model, "fixed"))
            else:
                notice_once("transformers is left out: it has no model of this form")
        else:
            work = functools.partial(_work, model, engine)
            found[engine] = Runner(functools.partial(_run, model, engine), work)
    return found


def _onnx_run(model: AdaptiveAlbertModel, dtype: Dtype) -> Callable[[Batch], Tensor] | None:
    """By onnxruntime, with as many threads as torch has."""
    if model.device.type != "cpu":
        notice_once("onnxruntime is left out: it is measured on a CPU")
        return None
    if not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        notice_once("onnxruntime is left out, and int8 with it: pip install 'depthlab[onnx]'")
        return None
    import onnxruntime

    from depthlab.models.onnx.export import to_onnx

    try:
        graph = to_onnx(model, dtype)
    except UserError as error:
        notice_once(f"onnxruntime is left out: {error}")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])

    def run(batch: Batch) -> Tensor:
        _, depths = session.run(["last_hidden_state", "depths"], {name: ids.numpy() for name, ids in batch.items()})
        return torch.from_numpy(depths)

    return run


def same_size(config: AdaptiveAlbertConfig) -> nn.Module | None:
    """A new model of Hugging Face's that does what ours does at fixed depth, if there is one."""
    if config.relaxation_rank or config.num_hidden_groups not in (1, config.num_hidden_layers):
        return None
    tied = config.num_hidden_groups == 1
    if not tied and config.embedding_size != config.hidden_size:
        return None  # BERT has no projection between them
    config_class, model_class = (AlbertConfig, AlbertModel) if tied else (BertConfig, BertModel)
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    names += ("max_position_embeddings", "type_vocab_size", "hidden_act", *(("embedding_size",) if tied else ()))
    return model_class(config_class(**{name: getattr(config, name) for name in names}), add_pooling_layer=False)


def measure(
    model: AdaptiveAlbertModel,
    found: Mapping[Engine, Runner],
    inputs: Mapping[int, Sequence[Batch]],
    dtype: Dtype,
    peak: float,
    rounds: int,
) -> Iterator[Speed]:
    """Engines in turn, A B C A B C ..., so that a machine that gets slower is so for all.

    Args:
        model: in this dtype.
        found: what runs.
        inputs: batches, by their size.
        dtype: for the record.
        peak: floating point operations a second of a matrix product.
        rounds: how often all batches are run; once more before that, which is not counted.
    """
    for size, parts in inputs.items():
        seconds: dict[Engine, list[float]] = {engine: [] for engine in found}
        for turn in range(rounds + 1):
            for engine, runner in found.items():
                for batch in parts:
                    begun = time.perf_counter()
                    runner.run(batch)
                    _wait(model.device)
                    if turn:
                        seconds[engine].append(time.perf_counter() - begun)
        for engine, runner in found.items():
            yield _speed(model, engine, runner, parts, size, dtype, np.array(seconds[engine]), rounds, peak)


def _speed(
    model: AdaptiveAlbertModel,
    engine: Engine,
    runner: Runner,
    parts: Sequence[Batch],
    size: int,
    dtype: Dtype,
    seconds: np.ndarray,
    rounds: int,
    peak: float,
) -> Speed:
    tokens = sum(int(batch["attention_mask"].sum()) for batch in parts)
    iterations = computed = operations = 0
    for batch in parts:
        depths = runner.run(batch)
        if depths is None:
            depths = batch["attention_mask"] * model.config.num_hidden_layers
        iterations += int(depths.sum())
        token_iterations, flops = runner.work(depths)
        computed += token_iterations
        operations += flops
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    a_round = seconds.sum() / rounds
    with PeakMemory() as memory:
        runner.run(max(parts, key=lambda batch: batch["input_ids"].numel()))
    return Speed(
        engine,
        dtype,
        size,
        p50=1000 * p50,
        p95=1000 * p95,
        sentences=sum(len(batch["input_ids"]) for batch in parts) / a_round,
        tokens=tokens / a_round,
        depth=iterations / tokens,
        token_iterations=computed / a_round,
        share=operations / a_round / peak,
        memory=None if engine == "onnxruntime" else memory.peak / 2**20,
    )


@torch.inference_mode()
def _run(model: AdaptiveAlbertModel, engine: Engine, batch: Batch) -> Tensor:
    """One of ours."""
    _choose(model, engine)
    return model(**batch).depths


@torch.inference_mode()
def _run_other(model: nn.Module, batch: Batch) -> None:
    model(**batch)


def _choose(model: AdaptiveAlbertModel, engine: Engine) -> None:
    model.encoder.hold_depth = model.config.num_hidden_layers if engine == "fixed" else None
    model.config.execution = "dense" if engine == "dense" else "compact"


def _work(model: AdaptiveAlbertModel, engine: Engine, depths: Tensor) -> tuple[int, int]:
    """The dense execution computes every token until the last of the batch has halted."""
    _choose(model, engine)
    ran = (depths > 0) * depths.max() if engine == "dense" else depths
    return int(ran.sum()), int(model.flops(depths).sum())


class PeakMemory(TorchDispatchMode):
    """Within it, counts the bytes of all tensors that are there at once and were not there before."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive = WeakIdKeyDictionary()  # storages that operations have made, and their bytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _storage(leaf) not in given:
                self._alive[leaf.untyped_storage()] = leaf.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def matmul_speed(config: AdaptiveAlbertConfig, dtype: torch.dtype, device: torch.device) -> float:
    """Floating point operations a second at the shape of the model's largest product, over many tokens."""
    left = torch.randn(ROWS, config.hidden_size, device=device).to(dtype)
    right = torch.randn(config.hidden_size, config.intermediate_size, device=device).to(dtype)
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        seconds.append(time.perf_counter() - begun)
    return 2 * ROWS * right.numel() / statistics.median(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def machine(device: torch.device) -> dict[str, Any]:
    """What it was measured on: the device, what of it counts, and threads."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    name = re.search(r"model name\s*: (.*)", told)
    flags = re.search(r"flags\s*: (.*)", told)
    supported = [flag for flag in FLAGS if flags and flag in flags[1].split()]
    facts = {"device": name[1] if name else "a CPU", "supports": supported, "threads": torch.get_num_threads()}
    return {**facts, "torch": torch.__version__}


def as_json(speeds: Sequence[Speed]) -> list[dict[str, Any]]:
    """Rows, with four digits of what is measured."""
    return [{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in asdict(s).items()} for s in speeds]
