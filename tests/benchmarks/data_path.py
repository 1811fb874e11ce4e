"""The data path of pre-training: preparing by one process and by several, its memory, and the loader beside training.

python -m tests.benchmarks.data_path --text FOLDER [--megabytes 20] [--workers 1 2]
python -m tests.benchmarks.data_path --text FOLDER --loader

Text is made out of the paragraphs of the .jsonl.gz files in the folders, in a new order. Prints Markdown.
"""

import argparse
import gzip
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import yaml

from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.tasks.pretraining import MODEL_INPUTS

TOKENIZER = "checkpoints/minilm-adaptive"
STEPS = 10


def write_text(folders: list[Path], megabytes: float, target: Path) -> None:
    """Documents of as many paragraphs as the articles have."""
    files = sorted(file for folder in folders for file in folder.glob("*.jsonl.gz"))
    lines = (line for file in files for line in gzip.decompress(file.read_bytes()).splitlines())
    texts = [json.loads(line)["text"].split("\n") for line in lines]
    paragraphs = [paragraph for text in texts for paragraph in text if paragraph.strip()]
    draw = random.Random(0)
    with target.open("w", encoding="utf-8") as file:
        while file.tell() < megabytes * 1e6:
            size = min(max(2, len(draw.choice(texts))), 100)
            file.write(json.dumps({"text": "\n".join(draw.choices(paragraphs, k=size))}, ensure_ascii=False) + "\n")


def module(corpus: Path, cache: Path, **settings: Any) -> PretrainingDataModule:
    """Prepared."""
    data = PretrainingDataModule(str(corpus), TOKENIZER, cache_dir=str(cache), max_predictions=None, **settings)
    data.prepare_data()
    return data


class Memory:
    """Samples the anonymous memory of this process and its children, MiB: what no file on the disk is behind."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.5):
            self.peak = max(self.peak, sum(map(_anonymous, _tree(os.getpid()))))


def _tree(process: int) -> list[int]:
    try:
        threads = [*Path(f"/proc/{process}/task").iterdir()]
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [process, *(below for child in children for below in _tree(child))]


def _anonymous(process: int) -> float:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss_Anon:"))


def compare_workers(corpus: Path, workers: list[int]) -> None:
    """A line a number of processes: seconds, and those of the CPU, here and in workers; once more, from the cache."""
    header = ["MB", "processes", "seconds", "CPU: this process", "workers", "peak MiB", "again, CPU"]
    print("|", " | ".join(header), "|\n|" + "---:|" * len(header))
    for count in workers:
        with tempfile.TemporaryDirectory(dir=corpus.parent) as cache:
            begun, before = time.perf_counter(), os.times()
            with Memory() as memory:
                module(corpus, Path(cache), prepare_workers=count)
            seconds, after = time.perf_counter() - begun, os.times()
            module(corpus, Path(cache))
            own, children = (sum(after[n : n + 2]) - sum(before[n : n + 2]) for n in (0, 2))
            again = sum(os.times()[:2]) - sum(after[:2])
        numbers = [corpus.stat().st_size / 1e6, count, seconds, own, children, memory.peak]
        print("|", *(f"{number:.3g} |" for number in numbers), f"{again:.2f} |", flush=True)


def compare_loader(corpus: Path, experiment: str) -> None:
    """Real tokens a CPU second of the loader, and of training steps in bfloat16 by one thread."""
    torch.set_num_threads(1)
    settings = yaml.safe_load(Path(experiment).read_text())
    with tempfile.TemporaryDirectory(dir=corpus.parent) as cache:
        data = module(corpus, Path(cache), batch_size=settings["data"]["batch_size"], num_workers=0)
        data.setup("fit")
        batches = iter(data.train_dataloader())
        kept = [next(batches) for _ in range(STEPS)]
        loaded = tokens_a_second(batches, lambda batch: None)
    config = AdaptiveAlbertConfig(vocab_size=len(data.tokenizer), **settings["model"]["config"])
    model = AdaptiveAlbertForPreTraining(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(batch: dict[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**{name: batch[name] for name in MODEL_INPUTS}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step(kept[0])
    trained = tokens_a_second(kept, step)
    print("| the loader, tokens / CPU s | training | times |\n|---:|---:|---:|")
    print(f"| {loaded:,.0f} | {trained:,.0f} | {loaded / trained:.0f} |")


def tokens_a_second(
    batches: Iterable[dict[str, torch.Tensor]], use: Callable[[dict[str, torch.Tensor]], None]
) -> float:
    """Real tokens, by CPU seconds of this process."""
    begun, tokens = time.process_time(), 0
    for batch in batches:
        tokens += int(batch["attention_mask"].sum())
        use(batch)
    return tokens / (time.process_time() - begun)


def main() -> None:
    """Text in a scratch folder, which is removed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--text", nargs="+", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--loader", nargs="?", const="experiments/pretrain/nano.yaml")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "text.jsonl"
        write_text(args.text, args.megabytes, corpus)
        if args.loader is None:
            compare_workers(corpus, args.workers)
        else:
            compare_loader(corpus, args.loader)


if __name__ == "__main__":
    main()
