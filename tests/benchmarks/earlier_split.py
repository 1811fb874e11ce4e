"""Documents that the models of before 2026-11-26 were not trained on, and WikiText-2: `... earlier_split DATA OUT`.

Until then a document was held out where the digest of its text was below 0.01, whatever it repeats. Those that share
more than a twentieth of their 13-grams with what was trained on are left out here. Of WikiText-2 the sentences with an
<unk> are.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

from depthlab.data.corpora.chunks import identify
from depthlab.data.corpora.grams import sampled_grams
from depthlab.data.corpora.parts import MOST_SHARED
from depthlab.data.corpora.sentences import split_sentences
from depthlab.data.lines import read_lines


def main(data: Path, out: Path) -> None:
    trained, held_out = [], {}
    for source, folder in (("wikipedia", "wikipedia"), ("novels", "books")):
        held_out[source] = []
        for file in sorted((data / folder).glob("*.jsonl.gz")):
            for _, line in read_lines(file):
                text = json.loads(line)["text"]
                if identify(text) < 0.01 * 2**64:
                    held_out[source].append(text)
                else:
                    trained.append(sampled_grams(text))
    text = re.sub(r" @(\S)@ ", r"\1", (data / "wikitext-2/wiki.valid.tokens").read_text())
    held_out["wikitext"] = re.split(r"(?m)^ = (?=[^=])", text)[1:]
    known = np.unique(np.concatenate(trained))
    for source, texts in held_out.items():
        shares = np.array([np.isin(sampled_grams(text), known, assume_unique=True).mean() for text in texts])
        kept = [text for text, share in zip(texts, shares, strict=True) if share <= MOST_SHARED]
        if source == "wikitext":
            kept = [_without_unknown(text) for text in kept]
        (out / f"{source}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in kept))
        worst = 100 * shares[shares <= MOST_SHARED].max()
        print(f"{source}: {len(texts)} documents, {len(kept)} kept, which share {worst:.1f} % at most")


def _without_unknown(article: str) -> str:
    paragraphs = [split_sentences(line.strip(" =")) for line in article.splitlines()]
    kept = [" ".join(sentence for sentence in sentences if "<unk>" not in sentence) for sentences in paragraphs]
    return "\n".join(paragraph for paragraph in kept if paragraph)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
