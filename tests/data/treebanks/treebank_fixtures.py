"""Hand-made trees in CoNLL-U and in brackets."""

FEATURES = {
    "": "_",
    "past": "Mood=Ind|Tense=Past|VerbForm=Fin",
    "pres": "Mood=Ind|Tense=Pres|VerbForm=Fin",
    "subjunctive": "Mood=Sub|Tense=Pres|VerbForm=Fin",
    "imperative": "Mood=Imp|VerbForm=Fin",
    "modal": "VerbForm=Fin",
    "infinitive": "VerbForm=Inf",
    "participle": "Tense=Past|VerbForm=Part",
    "sing": "Number=Sing",
    "plur": "Number=Plur",
    "ptan": "Number=Ptan",
}


def conllu(words: str, *comments: str) -> str:
    """A sentence of CoNLL-U.

    Args:
        words: `form/UPOS/relation/head`, perhaps with `/` and a key of `FEATURES` after it, parted by spaces.
        comments: what stands before it.
    """
    lines = [f"# {comment}\n" for comment in comments]
    for number, word in enumerate(words.split(), 1):
        form, upos, relation, head, *features = word.split("/")
        columns = (number, form, form, upos, "_", FEATURES["".join(features)], head, relation, "_", "_")
        lines.append("\t".join(map(str, columns)) + "\n")
    return "".join(lines) + "\n"
