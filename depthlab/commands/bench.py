"""The command `depthlab bench`: how fast a model is on one's own sentences."""

import copy
import itertools
import json
from pathlib import Path

import torch
from transformers.utils import logging

from depthlab.analysis.speed import (
    ENGINES,
    SLOWEST_USABLE,
    Dtype,
    Engine,
    Speed,
    as_json,
    batches,
    machine,
    matmul_speed,
    measure,
    runners,
)
from depthlab.commands.inspect import tokenizer_of
from depthlab.data.corpora.sample import read_sample, sample_file
from depthlab.data.lines import read_lines
from depthlab.errors import UserError
from depthlab.files import check_own, make_writable, writing
from depthlab.models.checkpoint import load_as_saved
from depthlab.render.document import Document, Table, dashed, to_markdown
from depthlab.render.figures import embed
from depthlab.render.html import to_html
from depthlab.render.speed_curves import speed_curves

MARK = "depthlab bench"
"""In every page of ours: only such a file may be replaced."""
HEADER = (
    *("dtype", "engine", "batch", "ms: p50", "p95", "sentences / s", "tokens / s", "mean depth"),
    *("token-iterations / s", "of the product's speed", "MiB"),
)


def bench(
    checkpoint: str,
    data: str | None = None,
    batch_sizes: tuple[int, ...] = (1, 8, 32, 64),
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16", "int8"),
    engines: tuple[Engine, ...] = ENGINES,
    sentences: int = 128,
    rounds: int = 3,
    device: str | None = None,
    html: str | None = None,
) -> None:
    """Measure how fast a model is on your own sentences, in its executions and beside others.

    A table: latency, throughput, depth, memory, and what share it is of the speed of a plain matrix product of the
    model's shape, measured in the same run. Tokenizing is not counted, heads are left out. The last line is one JSON
    object.

    Args:
        checkpoint: A run, a directory that `depthlab export` or `convert` wrote, or an ALBERT of Hugging Face's.
        data: A file with a sentence a line, UTF-8, plain or gzipped; without it, verses of the sample corpus.
        batch_sizes: Sentences at a time.
        dtypes: Of weights and states; int8 is onnxruntime's. One in which the machine multiplies at less than a tenth
            of its speed in float32 is left out.
        engines: "compact" and "dense", the two executions; "fixed": every token up to the cap; "transformers": Hugging
            Face's ALBERT or BERT of the same sizes, with random weights, where there is one; "onnxruntime", on a CPU,
            where it is installed.
        sentences: How many of the file are read, from the first on.
        rounds: How often they are run by each engine, the engines in turn.
        device: Of torch; without it, a GPU where there is one.
        html: A page to write as well, with curves.

    Raises:
        UserError: there is no model, no tokenizer or no sentence; a number is not positive; the page can't be written.
    """
    for name, values in {"batch_sizes": batch_sizes, "sentences": (sentences,), "rounds": (rounds,)}.items():
        if not values or min(values) < 1:
            raise UserError(f"--{name} must be at least 1, got {', '.join(map(str, values)) or 'nothing'}")
    target = None if html is None else Path(html)
    if target is not None:
        check_own("--html", target, f'content="{MARK}"'.encode(), f"page of `{MARK}`")
        make_writable("the page to --html in", target.parent)
    texts, source = _texts(data, sentences)
    place = _device(device)
    logging.disable_progress_bar()
    original = load_as_saved(checkpoint).base_model
    tokenizer = tokenizer_of(checkpoint, original.config)
    longest = original.config.max_position_embeddings
    inputs = {size: batches(tokenizer, texts, size, longest, place) for size in dict.fromkeys(batch_sizes)}

    facts = {"checkpoint": checkpoint, "data": source, "sentences": len(texts), **machine(place)}
    supports = f" ({' '.join(facts['supports'])}; {facts['threads']} threads)" if "supports" in facts else ""
    print(f"{checkpoint}, {len(texts)} sentences of {source}\n{facts['device']}{supports}, torch {facts['torch']}")
    products = dict.fromkeys(["float32", *(dtype for dtype in dtypes if dtype != "int8")])
    peaks = {dtype: round(matmul_speed(original.config, getattr(torch, dtype), place)) for dtype in products}
    print(*(f"{dtype}: a matrix product at {peak / 1e9:,.0f} GFLOP/s" for dtype, peak in peaks.items()), sep="\n")
    speeds: list[Speed] = []
    for dtype in dict.fromkeys(dtypes):
        product = dtype if dtype in peaks else "float32"
        usable = peaks[product] > SLOWEST_USABLE * peaks["float32"]
        if usable:
            model = copy.deepcopy(original).to(place, getattr(torch, product))
            found = runners(model, dict.fromkeys(engines), dtype)
            if found:
                print(f"measuring {dtype}: {', '.join(found)}", flush=True)
            speeds += measure(model, found, inputs, dtype, peaks[product], rounds)
        else:
            print(f"{dtype} is left out: this machine has no arithmetic for it")
    if not speeds:
        raise UserError("there is nothing to measure: no engine of --engines runs this model in --dtypes")
    table = _table(speeds, original.config.num_hidden_layers)
    print("", to_markdown(table), sep="\n")
    if target is not None:
        curves = embed(speed_curves(speeds), "Sentences per second, and milliseconds a batch.", "speed.svg")
        told = f"{checkpoint}, {len(texts)} sentences of {source}, on {facts['device']}, torch {facts['torch']}."
        with writing("--html", target) as unfinished:
            unfinished.write_text(to_html(Document("How fast it is", [told, curves, table]), MARK), encoding="utf-8")
        print(f"\npage  {target}")
    print("", json.dumps({**facts, "matmul_flops": peaks, "rows": as_json(speeds)}), sep="\n")


def _texts(data: str | None, most: int) -> tuple[list[str], str]:
    """The first ones, and what to call them."""
    if data is None:
        lines = (line for chapter in read_sample(sample_file()) for line in chapter.splitlines())
    else:
        lines = (line for _, line in read_lines(Path(data), "--data"))
    texts = [*itertools.islice((line.strip() for line in lines if line.strip()), most)]
    if not texts:
        raise UserError(f"--data {data} has no sentence in it")
    return texts, "the sample corpus" if data is None else data


def _device(name: str | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()  # "meta" has none
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def _table(speeds: list[Speed], cap: int) -> Table:
    rows, before = [], None
    for speed in speeds:
        numbers = [f"{speed.p50:.1f}", f"{speed.p95:.1f}", f"{speed.sentences:,.0f}", f"{speed.tokens:,.0f}"]
        numbers += [f"{speed.depth:.2f}", f"{speed.token_iterations:,.0f}", f"{speed.share:.2f}", dashed(speed.memory)]
        rows.append([speed.dtype if speed.dtype != before else "", speed.engine, str(speed.batch), *numbers])
        before = speed.dtype
    caption = (
        f"Milliseconds are medians and 95th percentiles of batches; the cap is {cap}. Token-iterations are those "
        "computed. The product is a matrix product in the same dtype (for int8 in float32), measured in this run; MiB "
        "are those of the tensors that the largest batch has at once, beside the weights."
    )
    return Table(caption, HEADER, rows, left=2)
