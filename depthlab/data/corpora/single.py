"""Prepared text sentence by sentence: what sentence encoders read."""

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase


class Sentences:
    """The sentences of some stored chunks, as a tokenized split: numbers of sentences in, columns out.

    Args:
        chunks: Stored chunks, see `depthlab.data.corpora.chunks`.
        rows: Those whose sentences these are.
        tokenizer: Whose [CLS] and [SEP] stand around each.
        max_length: Most tokens of one; what is over it is cut off.
        documents: [rows], of which document each chunk is, where batches are to say it.

    Attributes:
        lengths: [S], tokens of each sentence.
    """

    def __init__(
        self,
        chunks: Dataset,
        rows: np.ndarray,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        documents: np.ndarray | None = None,
    ) -> None:
        self.chunks = chunks.select_columns(["ids", "sentence_lengths"]).with_format("arrow")
        self.rows = rows
        self.documents = documents
        self.around = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        self.most = max_length - len(self.around)
        pieces = self.chunks.data.column("sentence_lengths").take(rows).combine_chunks()
        self.first = pieces.offsets.to_numpy()  # [rows + 1], number of the first sentence of each chunk
        self.lengths = np.minimum(pieces.flatten().to_numpy(), self.most) + len(self.around)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, numbers: np.ndarray) -> dict[str, list]:
        """`input_ids` and `token_type_ids` of these sentences, and `document`."""
        chunk = np.searchsorted(self.first, numbers, side="right") - 1
        table = self.chunks[self.rows[chunk].tolist()]
        ids, lengths = (table.column(name).combine_chunks() for name in ("ids", "sentence_lengths"))
        sentences = []
        for place, number in enumerate(numbers - self.first[chunk]):
            ends = lengths[place].values.to_numpy().cumsum()
            begin = ends[number - 1] if number else 0
            pieces = ids[place].values.to_numpy()[begin : min(ends[number], begin + self.most)].astype(np.int32)
            sentences.append(np.concatenate([self.around[:1], pieces, self.around[1:]]))
        columns = {"input_ids": sentences, "token_type_ids": [np.zeros(len(one), np.int8) for one in sentences]}
        return columns if self.documents is None else columns | {"document": self.documents[chunk].tolist()}
