"""`depthlab data`: data sets made out of others."""

from pathlib import Path

from depthlab.data.benchmarks.probing import PROBING_TASKS
from depthlab.data.benchmarks.probing_sets import TOP, balance, classes, count_table, derive, write
from depthlab.data.treebanks.trees import treebank_files
from depthlab.errors import UserError
from depthlab.files import check_new


def make_probing_sets(*, treebank: list[str], to: str) -> None:
    """Make probing tasks out of treebanks: tense and numbers of CoNLL-U, top constituents of brackets.

    What label a sentence gets and which sentences are taken is written at the top of
    depthlab/data/benchmarks/probing_rules.py and probing_sets.py there. A task that the treebanks have too little for
    is left out, and it is said why.

    Args:
        treebank: files in CoNLL-U (.conllu, with features) or the Penn Treebank's brackets (.ptb, .mrg), plain or
            gzipped, and folders of such.
        to: the directory for the tasks' files; it must not exist yet, or be empty.

    Raises:
        UserError: a treebank can't be read; no task can be made of them; the directory is not empty or can't be
            written.
    """
    target = Path(to).absolute()
    check_new("--to", target)
    derived = derive(treebank_files(treebank))
    tasks, left_out = {}, []
    for task, sentences in derived.items():
        try:
            tasks[task] = balance(task, classes(sentences) if task == TOP else sentences)
        except UserError as error:
            left_out.append(str(error))
    if not tasks:
        raise UserError("; ".join(left_out))
    write(tasks, target)
    for task, sides in tasks.items():
        print(count_table(task, len(derived[task]), sides) + "\n")
    lines = [f"written   {target / f'{PROBING_TASKS[task]}.txt'}" for task in tasks]
    print("\n".join([*lines, *(f"left out  {reason}" for reason in left_out)]))


KINDS = {"probing": make_probing_sets}
"""Of data sets."""
