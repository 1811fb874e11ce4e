"""Do the intervals of labels' effects hold what they say? Depths are planted in the pieces of a real treebank.

python -m tests.benchmarks.adjusted_effects DUMP.parquet [--copies 200]

DUMP as `depthlab predict --dump` writes it, with frequencies and losses. Its depths are replaced: they owe to loss and
frequency smoothly, to a label what is planted, and to the document, the sentence, the word and chance.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from depthlab.analysis.confounds import CONFOUNDS, PRODUCT, holm, undetermined
from depthlab.analysis.labels import FREQUENT, relations
from depthlab.analysis.regression import p_values, without
from depthlab.analysis.splines import Splines
from depthlab.analysis.tokens import read_tokens
from depthlab.metrics.intervals import t_quantile

NOISE = {"document": 0.1, "label in a document": 0.1, "sentence": 0.15, "word": 0.25, "piece": 0.5}
"""Standard deviations of what is shared, in iterations."""


def smooth(table: pd.DataFrame) -> pd.Series:
    """Depth as it is found to go with loss and frequency: level at both ends of the loss, less so for rare words."""
    rise = 1 / (1 + np.exp(-(table.loss - 4)))
    return 2 + 1.5 * rise - 0.12 * rise * table.frequency + 0.3 * np.exp(-((table.frequency - 3.5) ** 2))


def plant(table: pd.DataFrame, labels: pd.Series, effects: dict[str, float], seed: int) -> pd.DataFrame:
    """The table with other depths."""
    rng = np.random.default_rng(seed)
    depth = smooth(table) + labels.map(effects).fillna(0)
    shared = [[table.document], [table.document, labels], [table.sentence], [table.sentence, table.word], [table.index]]
    for deviation, by in zip(NOISE.values(), shared, strict=True):
        group = table.groupby(by).ngroup()
        depth += rng.normal(0, deviation, group.max() + 1)[group]
    return table.assign(depth=depth)


class Method:
    """Labels' effects of many outcomes over the same pieces.

    Args:
        labels: [N]
        confounds: [N, ...], columns of the regression beside the labels.
        cluster: [N]
        now: as `label_effects` does it: jackknife, quantiles of t, Holm's correction. Otherwise as it did: sandwich,
            quantiles of the normal distribution, no correction.
    """

    def __init__(self, labels: pd.Series, confounds: np.ndarray, cluster: pd.Series, now: bool) -> None:
        indicators = pd.get_dummies(labels, dtype=float)
        number, share = indicators.shape[1], indicators.mean().to_numpy()
        design = np.column_stack([indicators, confounds])
        self.q, r = np.linalg.qr(design[:, undetermined(design)])
        self.labels = labels.value_counts().index[:FREQUENT]
        contrasts = np.where(np.eye(number), 1, -share / (1 - share[:, None]))
        contrasts = np.pad(contrasts, ((0, 0), (0, len(r) - number)))
        contrasts = np.linalg.solve(r.T, contrasts[indicators.columns.get_indexer(self.labels)].T).T
        self.weights = contrasts @ self.q.T
        self.cluster, clusters = pd.factorize(cluster)
        if now:
            self.influence = np.empty_like(self.weights)  # of residuals on the effects
            for part in (self.cluster == number for number in range(len(clusters))):
                left_out = contrasts @ without(self.q[part]) @ self.q[part].T
                self.influence[:, part] = np.sqrt(1 - 1 / len(clusters)) * left_out
        else:
            pieces, columns = self.q.shape
            correction = len(clusters) / (len(clusters) - 1) * (pieces - 1) / (pieces - columns)
            self.influence = self.weights * np.sqrt(correction)
        self.degrees = cluster.groupby(labels).nunique()[self.labels] - 1
        self.now = now

    def __call__(self, depth: pd.Series) -> pd.DataFrame:
        """Of the most frequent labels: held and its interval; found, whether it differs after the correction."""
        outcome = depth.to_numpy()
        residuals = outcome - self.q @ (self.q.T @ outcome)
        sums = np.stack([np.bincount(self.cluster, weight * residuals) for weight in self.influence])
        held, error = self.weights @ outcome, np.linalg.norm(sums, axis=1)
        reach = (t_quantile(self.degrees.to_numpy()) if self.now else 1.959964) * error
        found = pd.DataFrame({"held": held, "held_low": held - reach, "held_high": held + reach}, self.labels)
        p_value = holm(p_values(found.held, error, self.degrees))
        return found.assign(found=p_value < 0.05 if self.now else np.abs(held) > reach)


def methods(table: pd.DataFrame, labels: pd.Series) -> dict[str, Method]:
    """That of the report until November 2026, and now."""
    confounds = table[list(CONFOUNDS)].assign(pieces=np.log2(table.pieces)).astype(float)
    splines = np.column_stack(list(Splines(confounds, PRODUCT)(confounds).values()))
    return {
        "linear, by sentence": Method(labels, confounds.to_numpy(), table.sentence, now=False),
        "splines, by document": Method(labels, splines, table.document, now=True),
    }


def rates(
    table: pd.DataFrame, labels: pd.Series, effects: dict[str, float], copies: int, first: int = 0
) -> pd.DataFrame:
    """By method, over copies with seeds from the first on and the most frequent labels.

    Returns:
        covered, the share of 95 % intervals that hold the truth, and least, that of the label with fewest; excludes,
        the share that exclude 0, and most, that of the label with most; any, the share of copies in which a label is
        found, after the correction where there is one.
    """
    share = labels.value_counts(normalize=True)
    planted = pd.Series(effects, dtype=float).reindex(share.index, fill_value=0.0)
    truth = (planted - (planted @ share - planted * share) / (1 - share))[:FREQUENT]
    rows, by_name = {}, methods(table, labels)
    for seed in range(first, first + copies):
        depth = plant(table, labels, effects, seed).depth
        for name, method in by_name.items():
            found = method(depth)
            covered = (found.held_low <= truth) & (truth <= found.held_high)
            excludes = (found.held_low > 0) | (found.held_high < 0)
            rows[name, seed] = pd.concat({"covered": covered, "excludes": excludes, "found": found.found}, axis=1)
    together = pd.concat(rows, names=["method", "seed", "label"]).reset_index()
    return pd.DataFrame({name: _rates(together[together.method == name]) for name in by_name}).T


def _rates(rows: pd.DataFrame) -> pd.Series:
    by_label = rows.groupby("label")[["covered", "excludes"]].mean()
    found = rows.groupby("seed").found.any().mean()
    mean, least, most = by_label.mean(), by_label.covered.min(), by_label.excludes.max()
    return pd.Series([mean.covered, least, mean.excludes, most, found], ["covered", "least", "excludes", "most", "any"])


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dump", type=Path)
    parser.add_argument("--copies", type=int, default=200)
    args = parser.parse_args(arguments)
    table = read_tokens([args.dump]).dropna(subset=["upos", *CONFOUNDS])
    cases = {
        "relation, nothing planted": (relations(table), {}),
        "part of speech, nothing planted": (table.upos, {}),
        "relation, planted": (relations(table), {"root": 0.1, "punct": 0.2, "amod": -0.1, "nsubj": 0.05}),
    }
    print(f"{args.copies} copies of {args.dump.stem}: {len(table):,} pieces, {table.document.nunique()} documents\n")
    print("| words, labels | method | covered (%) | least | exclude 0 (%) | most | any (%) |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for number, (case, (labels, effects)) in enumerate(cases.items()):
        # other copies for each case: over the same ones what is planted does not change what is covered
        for method, found in rates(table, labels, effects, args.copies, number * args.copies).iterrows():
            print(
                "|",
                " | ".join([f"{args.dump.stem}, {case}", method, *(f"{100 * value:.1f}" for value in found)]),
                "|",
                flush=True,
            )


if __name__ == "__main__":
    main()
