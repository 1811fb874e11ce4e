"""SentEval's ten probing tasks in small: what the lines of its files look like, with sentences of our own."""

import gzip
from collections.abc import Iterable
from pathlib import Path

TENSE = """
PAST|The crows circled above the tower .
PAST|She painted the old fence green .
PAST|A fire destroyed the theatre .
PAST|My uncle caught three trout .
PAST|The bridge collapsed in the storm .
PAST|He forgot the keys again .
PAST|Nine sailors survived the wreck .
PAST|The baker sold every loaf .
PAST|We rowed across the lake .
PAST|The judge freed both brothers .
PRES|The crows circle above the tower .
PRES|She paints the old fence green .
PRES|A fire destroys the theatre .
PRES|My uncle catches three trout .
PRES|The bridge collapses in the storm .
PRES|He forgets the keys again .
PRES|Nine sailors survive the wreck .
PRES|The baker sells every loaf .
PRES|We row across the lake .
PRES|The judge frees both brothers .
"""
TOP_CONSTITUENTS = """
NP_VP_.|The crows circled above the tower .
NP_VP_.|My uncle catches three trout .
NP_VP_.|We row across the lake .
VP_.|Do n't paint the fence green .
VP_.|Bring me the keys .
VP_.|Sell every loaf you have .
WHNP_SQ_.|What did the sailors survive ?
WHNP_SQ_.|Who freed both brothers ?
WHNP_SQ_.|Which bridge did you cross ?
OTHER|Said nobody ever .
OTHER|Down went the ship .
OTHER|And why not the theatre ?
"""
OTHERS = {  # SentEval's names and labels
    "subj_number": "NN|The man ate his crumbs .\nNNS|The men ate their crumbs .",
    "obj_number": 'NN|He ate the " crumb .\nNNS|He ate the crumbs .',
    "sentence_length": "0|It was small once .\n5|And so on .",
    "word_content": "crumbs|He ate the crumbs .\nharbour|The harbour was grey .",
    "tree_depth": "5|It rained .\n12|It rained where we were .",
    "bigram_shift": "I|He the ate crumbs .\nO|He ate the crumbs .",
    "odd_man_out": "C|He ate the harbour .\nO|He ate the crumbs .",
    "coordination_inversion": "I|It poured and it rained .\nO|It rained and it poured .",
}
ROWS = {
    name: [tuple(line.split("|")) for line in text.strip().split("\n")]
    for name, text in {"tense": TENSE, "top_constituents": TOP_CONSTITUENTS, **OTHERS}.items()
}
"""Label and sentence of each task's rows."""
SENTEVALS_NAMES = {name: name for name in ROWS} | {"tense": "past_present"}


def write_lines(file: Path, lines: Iterable[Iterable[str]]) -> Path:
    text = "".join("\t".join(line) + "\n" for line in lines).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
    return file


def write_probing(root: Path) -> Path:
    """All tasks into a folder; to train, validate and test on are the same rows, the last of them in reverse."""
    for name, rows in ROWS.items():
        lines = [(side, *row) for side in ("tr", "va") for row in rows] + [("te", *row) for row in rows[::-1]]
        write_lines(root / f"{SENTEVALS_NAMES[name]}.txt", lines)
    return root
