"""Invented files of a task of one's own: a class by a word in the text, pairs, numbers, tags of words."""

import csv
import json
import random
from pathlib import Path

NAMES = ("sports", "weather", "über, all")
WORDS = (
    *("the", "a", "crow", "tower", "river", "baker", "lake", "under"),
    *("old", "green", "sold", "crosses", "heard", "never", "amber"),
)
CLUES = ("ball", "rain", "sea")


def texts(rows: int, seed: int) -> list[tuple[str, str]]:
    """Texts, and the name that the clue in each stands for."""
    draw = random.Random(seed)
    numbers = [draw.randrange(3) for _ in range(rows)]
    return [(" ".join([*draw.choices(WORDS, k=draw.randint(2, 5)), CLUES[n]]), NAMES[n]) for n in numbers]


def write_table(file: Path, columns: list[str], rows: list[tuple]) -> Path:
    if file.suffix == ".tsv":
        lines = ["\t".join(map(str, row)) for row in [columns, *rows]]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([columns, *rows])
    else:
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def write_bio(file: Path, seed: int, rows: int = 20) -> Path:
    """Rivers are places of one word or two."""
    draw = random.Random(seed)
    sentences = []
    for _ in range(rows):
        words = [(word, "O") for word in draw.choices(WORDS, k=3)]
        place = [("tarn", "B-LOC")] if draw.random() < 0.5 else [("corvale", "B-LOC"), ("lake", "I-LOC")]
        sentences.append([*words, *place, ("heard", "O")])
    file.write_text("\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in one) for one in sentences) + "\n")
    return file


def write_conllu(file: Path, seed: int, rows: int = 20) -> Path:
    draw = random.Random(seed)
    upos = {word: ("DET", "NOUN", "VERB")[number % 3] for number, word in enumerate(WORDS)}
    sentences = []
    for _ in range(rows):
        words = draw.choices(WORDS, k=4)
        lines = [
            f"{n}\t{word}\t_\t{upos[word]}\t_\t_\t{n - 1}\t{'dep' if n > 1 else 'root'}\t_\t_"
            for n, word in enumerate(words, 1)
        ]
        sentences.append("\n".join(lines))
    file.write_text("\n\n".join(sentences) + "\n\n")
    return file
