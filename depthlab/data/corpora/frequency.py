"""How frequent words are in a corpus."""

import math
import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

WORD = re.compile(r"\w+?(?=n['’]t\b)|n['’]t\b|['’]\w+|\w+|([^\w\s])\1*")  # noqa: RUF001
"""Words of running text, about as English treebanks part them: "do", "n't"; "it", "'s"; "..."."""


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs in some texts, in lower case."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_words(text))
    return counts


def log_frequency(forms: pd.Series, counts: Counter[str]) -> pd.Series:
    """Log10 of each form's occurrences per million words of a corpus, upper and lower case alike.

    Smoothed as by van Heuven et al. (2014), log10((count + 1) / (words + types) * 1e6): a form that the corpus has not
    is as frequent as if it were one more word, and rarer than all that the corpus has. A form that `WORD` parts ("Mr.",
    "e-mail") is as frequent as the rarest of its parts, which it can't exceed.

    Args:
        forms: Words of a treebank.
        counts: Of the corpus, as `count_words` makes them.
    """
    millions = (counts.total() + len(counts)) / 1e6
    found = {form: min((counts[part] for part in _words(form)), default=0) for form in forms.unique()}
    return forms.map({form: math.log10((count + 1) / millions) for form, count in found.items()})


def _words(text: str) -> list[str]:
    return [match.group() for match in WORD.finditer(text.lower())]
