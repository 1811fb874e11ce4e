"""The sentences of a document."""

import itertools
import re

import sentencex

LINE_END = re.compile(r"\r\n?|\n")
SENTENCE_END = re.compile(r"[.!?]")


def split_sentences(document: str) -> list[str]:
    """The sentences of a document, none of them empty, none across two paragraphs.

    A line is a paragraph, unless the text is hard-wrapped, as Project Gutenberg's is: there blank lines part them.
    """
    lines = [line.strip() for line in LINE_END.split(document)]
    if _is_hard_wrapped(lines):
        blocks = itertools.groupby(lines, key=bool)
        lines = [" ".join(block) for filled, block in blocks if filled]
    sentences = (sentence.strip() for line in lines if line for sentence in sentencex.segment("en", line))
    return [sentence for sentence in sentences if sentence]


def _is_hard_wrapped(lines: list[str]) -> bool:
    """Whether lines are broken in mid-sentence: more than a third goes on in lower case, on the next line.

    Not where hardly a line has the end of a sentence in it: that is text without punctuation, a sentence a line.
    """
    filled = [line for line in lines if line]
    ended = sum(SENTENCE_END.search(line) is not None for line in filled)
    broken = sum(
        after[:1].islower() and (before[-1:].isalnum() or before[-1:] in (",", "-"))
        for before, after in itertools.pairwise(lines)
    )
    return 3 * broken > len(filled) and 10 * ended > len(filled)
