"""GLUE fine-tuning in plain PyTorch, to hold `depthlab fit` against: nothing of depthlab's is in it.

python -m tests.benchmarks.plain_finetuning --model MODEL --data GLUE --task mrpc
"""

import argparse
import csv
import random
from pathlib import Path

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TASKS = {  # folder, columns of the texts, column of the label, labels, metrics
    "cola": ("CoLA", [3], 1, ["0", "1"], {"matthews_corrcoef": matthews_corrcoef}),
    "sst2": ("SST-2", [0], 1, ["0", "1"], {"accuracy": accuracy_score}),
    "mrpc": ("MRPC", [3, 4], 0, ["0", "1"], {"f1": f1_score, "accuracy": accuracy_score}),
    "rte": ("RTE", [1, 2], 3, ["entailment", "not_entailment"], {"accuracy": accuracy_score}),
    "stsb": ("STS-B", [7, 8], 9, None, {"spearman": spearmanr, "pearson": pearsonr}),
}


def read(path, columns, label, labels, header):
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[header:]
    targets = [labels.index(row[label]) if labels else float(row[label]) for row in rows]
    return [[row[column].strip() for column in columns] for row in rows], targets


def main():
    parser = argparse.ArgumentParser()
    for name in ("model", "data", "task"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in {"seed": 0, "epochs": 3, "batch": 32, "warmup": 200, "max_length": 128, "lr": 3e-5}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--train_examples", type=int)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    random.seed(args.seed), np.random.seed(args.seed), torch.manual_seed(args.seed)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=args.bf16)
    folder, columns, label, labels, metrics = TASKS[args.task]
    files = (Path(args.data) / folder / f"{split}.tsv" for split in ("train", "dev"))
    (texts, targets), (dev_texts, dev_targets) = (read(f, columns, label, labels, args.task != "cola") for f in files)
    drawn = random.sample(range(len(texts)), min(args.train_examples or len(texts), len(texts)))
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=len(labels or [0]))

    def encode(batch):
        kinds = {"truncation": "longest_first", "max_length": args.max_length, "return_token_type_ids": True}
        return tokenizer(*zip(*batch, strict=True), padding=True, return_tensors="pt", **kinds)

    rest = [parameter for parameter in model.parameters() if parameter.ndim == 1]  # biases and layer norms
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1]}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, eps=1e-6, weight_decay=0.01)
    steps = -(-len(drawn) // args.batch) * args.epochs
    rate = lambda done: done / args.warmup if done < args.warmup else 1 - done / steps  # noqa: E731 (ALBERT's)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for epoch in range(1, args.epochs + 1):
        random.shuffle(drawn), model.train()
        drawn.sort(key=lambda row: len("".join(texts[row])) // 16)  # a batch has texts of about one length
        for first in random.sample(range(0, len(drawn), args.batch), steps // args.epochs):
            rows = drawn[first : first + args.batch]
            with precision:
                loss = model(**encode([texts[i] for i in rows]), labels=torch.tensor([targets[i] for i in rows])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(), schedule.step(), optimizer.zero_grad()
        model.eval()
        with torch.no_grad(), precision:
            logits = torch.cat([model(**encode(dev_texts[i : i + 64])).logits for i in range(0, len(dev_texts), 64)])
        predictions = logits.argmax(1) if labels else logits[:, 0].float()
        scores = {n: round(100 * np.ravel(f(dev_targets, predictions))[0].item(), 2) for n, f in metrics.items()}
        print(args.task, "seed", args.seed, "epoch", epoch, scores, flush=True)


if __name__ == "__main__":
    main()
