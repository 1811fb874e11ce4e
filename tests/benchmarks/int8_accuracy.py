"""What int8 costs: models fine-tuned on GLUE on the dev split, as ONNX graphs in float32 and in int8.

python -m tests.benchmarks.int8_accuracy RUN [RUN ...]

RUN is what `depthlab fit --config experiments/glue.yaml --data.root GLUE` has left. Prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import yaml
from transformers import AutoTokenizer
from transformers.utils import logging

from depthlab.data.benchmarks.glue import read_task
from depthlab.data.benchmarks.glue_tasks import GLUE_TASKS
from depthlab.metrics.glue import METRICS
from depthlab.models.checkpoint import find_tokenizer, load_as_saved
from depthlab.models.onnx.export import INPUTS, to_onnx

BATCH = 32


def main() -> None:
    """A line a run and metric."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    args = parser.parse_args()
    logging.disable_progress_bar()
    header = ["task, metric", "float32", "int8", "correlation of logits", "mean depth: float32", "int8"]
    print("|", " | ".join(header), "|\n|---" + "|---:" * 5 + "|")
    for run in args.runs:
        data = yaml.safe_load((run / "config.yaml").read_text())["data"]
        task = GLUE_TASKS[data["task"]]
        dev = read_task(task, data["root"])[task.dev[0]]
        rows = [*zip(*dev.texts, strict=True)]
        order = sorted(range(len(rows)), key=lambda row: sum(map(len, rows[row])))  # so that little is padded
        gold = torch.tensor(dev.labels)[order]
        model, tokenizer = load_as_saved(str(run)), AutoTokenizer.from_pretrained(find_tokenizer(str(run)))
        answers, depths = [], []
        for dtype in ("float32", "int8"):
            session = onnxruntime.InferenceSession(to_onnx(model, dtype).SerializeToString())
            logits, depth = [], []
            for first in range(0, len(order), BATCH):
                texts = zip(*(rows[row] for row in order[first : first + BATCH]), strict=True)
                settings = {"padding": True, "truncation": True, "max_length": data["max_length"]}
                inputs = tokenizer(*map(list, texts), return_tensors="np", return_token_type_ids=True, **settings)
                found, taken = session.run(["logits", "depths"], {name: inputs[name] for name in INPUTS})
                logits.append(found)
                depth.append(taken[taken > 0])
            answers.append(torch.from_numpy(np.concatenate(logits)).double())
            depths.append(f"{np.concatenate(depth).mean():.3f}")
        alike = f"{np.corrcoef(*(found.flatten() for found in answers))[0, 1]:.4f}"
        predictions = [found[:, 0] if task.is_regression else found.argmax(1) for found in answers]
        for metric in task.metrics:
            scores = [f"{100 * float(METRICS[metric](found, gold)):.2f}" for found in predictions]
            print(f"| {task.folder}, {metric} | {' | '.join([*scores, alike, *depths])} |", flush=True)


if __name__ == "__main__":
    main()
