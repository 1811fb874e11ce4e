"""What int8 costs: fine-tuned models of SST-2 or STS-B on the dev split, as ONNX graphs in float32 and in int8.

python -m tests.benchmarks.int8_accuracy RUN [RUN ...] --data GLUE

RUN is what `depthlab fit --config experiments/glue.yaml --data.task sst2` (or stsb) has left. Prints Markdown.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import onnxruntime
import yaml
from scipy.stats import spearmanr
from transformers import AutoTokenizer
from transformers.utils import logging

from depthlab.models.checkpoint import find_tokenizer, load_as_saved
from depthlab.models.onnx.export import INPUTS, to_onnx

FILES = {"sst2": ("SST-2/dev.tsv", (0,), 1), "stsb": ("STS-B/dev.tsv", (7, 8), 9)}
"""By task: the file, the columns of its texts and of its label."""
BATCH = 32


def read(data: Path, task: str) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Texts, the short ones first so that little is padded, and labels."""
    file, texts, label = FILES[task]
    with (data / file).open() as lines:
        rows = [*csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    rows.sort(key=lambda row: sum(len(row[column]) for column in texts))
    return [tuple(row[column] for column in texts) for row in rows], np.array([float(row[label]) for row in rows])


def main() -> None:
    """A line a run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    logging.disable_progress_bar()
    print("| run | score: float32 | int8 | depth: float32 | int8 |\n|---|---:|---:|---:|---:|")
    for run in args.runs:
        task = yaml.safe_load((run / "config.yaml").read_text())["data"]["task"]
        texts, gold = read(args.data, task)
        model, tokenizer = load_as_saved(str(run)), AutoTokenizer.from_pretrained(find_tokenizer(str(run)))
        scores, depths = [], []
        for dtype in ("float32", "int8"):
            session = onnxruntime.InferenceSession(to_onnx(model, dtype).SerializeToString())
            logits, depth = [], []
            for first in range(0, len(texts), BATCH):
                columns = (list(column) for column in zip(*texts[first : first + BATCH], strict=True))
                settings = {"padding": True, "truncation": True, "max_length": 128, "return_token_type_ids": True}
                inputs = tokenizer(*columns, return_tensors="np", **settings)
                found, taken = session.run(["logits", "depths"], {name: inputs[name] for name in INPUTS})
                logits.append(found)
                depth.append(taken[taken > 0])
            everything = np.concatenate(logits)
            found = everything[:, 0] if task == "stsb" else everything.argmax(1)
            scores.append(100 * (spearmanr(found, gold)[0] if task == "stsb" else (found == gold).mean()))
            depths.append(np.concatenate(depth).mean())
        cells = " | ".join([*(f"{score:.2f}" for score in scores), *(f"{depth:.3f}" for depth in depths)])
        print(f"| {run.name}, {task} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
