"""`depthlab data`: data sets made out of others."""

from pathlib import Path

from depthlab.data.benchmarks.probing import PROBING_TASKS
from depthlab.data.benchmarks.probing_sets import TOP, balance, classes, count_table, derive, write
from depthlab.data.treebanks.trees import treebank_files
from depthlab.files import check_new


def make_probing_sets(*, treebank: list[str], to: str) -> None:
    """Make probing tasks out of treebanks: tense and numbers of CoNLL-U, top constituents of brackets.

    What label a sentence gets and which sentences are taken is written at the top of
    depthlab/data/benchmarks/probing_rules.py and probing_sets.py there.

    Args:
        treebank: files in CoNLL-U (.conllu, with features) or the Penn Treebank's brackets (.ptb, .mrg), plain or
            gzipped, and folders of such.
        to: the directory for the tasks' files; it must not exist yet, or be empty.

    Raises:
        UserError: a treebank can't be read, lacks annotation or is too small; the directory is not empty or can't be
            written.
    """
    target = Path(to).absolute()
    check_new("--to", target)
    derived = derive(treebank_files(treebank))
    tasks = {
        task: balance(task, classes(sentences) if task == TOP else sentences) for task, sentences in derived.items()
    }
    write(tasks, target)
    for task, sides in tasks.items():
        print(count_table(task, len(derived[task]), sides) + "\n")
    print("\n".join(f"written  {target / f'{PROBING_TASKS[task]}.txt'}" for task in tasks))


KINDS = {"probing": make_probing_sets}
"""Of data sets."""
