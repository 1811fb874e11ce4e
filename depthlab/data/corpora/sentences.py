"""The sentences of a document."""

import itertools

import sentencex


def split_sentences(document: str) -> list[str]:
    """The sentences of a document, none of them empty, none across two paragraphs.

    A line is a paragraph, unless the text is hard-wrapped, as Project Gutenberg's is: there blank lines part them.
    """
    lines = [line.strip() for line in document.split("\n")]
    if _is_hard_wrapped(lines):
        blocks = itertools.groupby(lines, key=bool)
        lines = [" ".join(block) for filled, block in blocks if filled]
    sentences = (sentence.strip() for line in lines if line for sentence in sentencex.segment("en", line))
    return [sentence for sentence in sentences if sentence]


def _is_hard_wrapped(lines: list[str]) -> bool:
    """Whether lines are broken in mid-sentence: paragraphs and headings hardly ever begin in lower case."""
    initials = [line[0] for line in lines if line]
    return 3 * sum(initial.islower() for initial in initials) > len(initials)
