"""Prepared text sentence by sentence, or two by two: what sentence encoders read, and what tasks of pairs do."""

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

PAIRS_STREAM = 2
"""Second number of the random seed of the pairs, so that no other use draws the same numbers."""


class Sentences:
    """The sentences of some stored chunks, as a tokenized split: numbers of sentences in, columns out.

    Args:
        chunks: Stored chunks, see `depthlab.data.corpora.chunks`.
        rows: Those whose sentences these are.
        tokenizer: Whose [CLS] and [SEP] stand around each.
        max_length: Most tokens of one; what is over it is cut off, and what is over half of it of each of two.
        documents: [rows], of which document each chunk is, where batches are to say it.
        pair_share: Share of the sentences that are read with the one that follows them in their chunk.
        seed: By which they are drawn.

    Attributes:
        lengths: [S], tokens of each sentence, or of both.
    """

    def __init__(
        self,
        chunks: Dataset,
        rows: np.ndarray,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        documents: np.ndarray | None = None,
        pair_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.chunks = chunks.select_columns(["ids", "sentence_lengths"]).with_format("arrow")
        self.rows = rows
        self.documents = documents
        self.cls, self.sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        pieces = self.chunks.data.column("sentence_lengths").take(rows).combine_chunks()
        self.first = pieces.offsets.to_numpy()  # [rows + 1], number of the first sentence of each chunk
        pieces = pieces.flatten().to_numpy()
        self.is_paired = np.random.default_rng([seed, PAIRS_STREAM]).random(len(pieces)) < pair_share
        self.is_paired[self.first[1:] - 1] = False  # nothing follows the last of a chunk
        self.most = np.where(self.is_paired, (max_length - 3) // 2, max_length - 2)
        second = np.where(self.is_paired, np.minimum(np.roll(pieces, -1), self.most) + 1, 0)
        self.lengths = np.minimum(pieces, self.most) + 2 + second

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, numbers: np.ndarray) -> dict[str, list]:
        """`input_ids` and `token_type_ids` of these sentences, each with its second if it has one, and `document`."""
        chunk = np.searchsorted(self.first, numbers, side="right") - 1
        table = self.chunks[self.rows[chunk].tolist()]
        ids, lengths = (table.column(name).combine_chunks() for name in ("ids", "sentence_lengths"))
        sentences, types = [], []
        for place, number in enumerate(numbers):
            ends = np.append(0, lengths[place].values.to_numpy().cumsum())[number - self.first[chunk[place]] :]
            pieces, most = ids[place].values.to_numpy(), self.most[number]
            texts = [pieces[ends[i] : min(ends[i + 1], ends[i] + most)] for i in range(1 + self.is_paired[number])]
            parts = [[self.cls, *texts[0], self.sep], *([*text, self.sep] for text in texts[1:])]
            sentences.append(np.concatenate(parts).astype(np.int32))
            types.append(np.repeat(np.arange(len(parts), dtype=np.int8), [len(part) for part in parts]))
        columns = {"input_ids": sentences, "token_type_ids": types}
        return columns if self.documents is None else columns | {"document": self.documents[chunk].tolist()}
