"""What a model does with one text: how deep each piece goes, when it wanted to stop, and what it predicts."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from depthlab.data.tokenization import TextEncoder, word_start_table
from depthlab.models import (
    AdaptiveAlbertForMaskedLM,
    AdaptiveAlbertForPreTraining,
    AdaptiveAlbertForSequenceClassification,
    AdaptiveAlbertForTokenClassification,
)
from depthlab.models.albert import AdaptiveAlbertPreTrainedModel
from depthlab.models.encoder import Iteration
from depthlab.models.inputs import most_tokens

GUESSES = 5
"""Tokens that are named for a [MASK]."""


@dataclass
class Piece:
    """One token."""

    text: str  # as the vocabulary has it, without its mark of where words begin or go on; of [UNK], as the text has it
    starts_word: bool
    depth: int
    halting: list[float]  # probabilities p^1..p^N; empty where depth is fixed
    label: str | None = None  # its class, of a classifier of tokens


@dataclass
class Inspection:
    """One text, special tokens included."""

    pieces: list[Piece]
    findings: list[tuple[str, str]]  # by heading: guesses for [MASK], the class, what was cut off
    cap: int  # the most iterations that the model gives a piece

    @property
    def mean_depth(self) -> float:
        """Iterations per piece."""
        return sum(piece.depth for piece in self.pieces) / len(self.pieces)

    @property
    def words(self) -> list[list[Piece]]:
        """The pieces by word."""
        words: list[list[Piece]] = []
        for piece in self.pieces:
            if piece.starts_word or not words:
                words.append([])
            words[-1].append(piece)
        return words

    def share(self, piece: Piece) -> float:
        """How far from one iteration to the cap a piece goes, 0 to 1: what its colour shows."""
        return (piece.depth - 1) / max(self.cap - 1, 1)


class Inspector:
    """Runs a model, in evaluation mode, over texts, one at a time."""

    def __init__(self, model: AdaptiveAlbertPreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._starts = word_start_table(tokenizer)
        self._encode = TextEncoder(tokenizer, most_tokens(model), masks=True)

    def __call__(self, text: str) -> Inspection:
        """Inspect a text, or a pair of texts with a tab between them.

        `[MASK]` in it is a masked token; what else spells a special token is text. What the model has no
        positions for is cut off.
        """
        parts = [part.replace("[MASK]", self.tokenizer.mask_token) for part in text.split("\t", 1)]
        (encoding,) = self._encode([parts[0] if len(parts) == 1 else tuple(parts)])
        ids = torch.tensor(self._encode.ids(encoding))
        halting: list[list[float]] = [[] for _ in ids]

        def note(iteration: Iteration) -> None:
            if iteration.probability is not None:
                noted = zip(iteration.position.tolist(), iteration.probability.tolist(), strict=True)
                for position, probability in noted:
                    halting[position].append(probability)

        with torch.inference_mode():
            segments = torch.tensor([encoding.type_ids])
            output = self.model(input_ids=ids[None], token_type_ids=segments, observer=note)
        unknown = self.tokenizer.unk_token_id
        pieces = []
        for row, (token, depth) in enumerate(zip(ids.tolist(), output.depths[0].tolist(), strict=True)):
            shown, starts_word = self._shown(token)
            if token == unknown and (part := encoding.sequence_ids[row]) is not None:
                shown = parts[part][slice(*encoding.offsets[row])].strip() or shown
            pieces.append(Piece(shown, starts_word, depth, halting[row]))
        if isinstance(self.model, AdaptiveAlbertForTokenClassification):
            for piece, label in zip(pieces, output.logits[0].argmax(dim=-1).tolist(), strict=True):
                piece.label = self.model.config.id2label[label]
        findings = [*self._guesses(ids, output), *self._classes(output)]
        if encoding.overflowing:
            findings.append(("cut off", f"the text is longer than the model's {most_tokens(self.model)} positions"))
        return Inspection(pieces, findings, self.model.config.num_hidden_layers)

    def _shown(self, token: int) -> tuple[str, bool]:
        """A token's text, and whether it starts a word."""
        form = self.tokenizer.convert_ids_to_tokens(token)
        return form.removeprefix("▁").removeprefix("##") or form, bool(self._starts[token])

    def _guesses(self, ids: Tensor, output: ModelOutput) -> list[tuple[str, str]]:
        if isinstance(self.model, AdaptiveAlbertForPreTraining):
            logits = output.prediction_logits[0]
        elif isinstance(self.model, AdaptiveAlbertForMaskedLM):
            logits = output.logits[0]
        else:
            return []
        findings = []
        for position in (ids == self.tokenizer.mask_token_id).nonzero().flatten().tolist():
            best = logits[position].float().softmax(dim=-1).topk(GUESSES)
            shown = [self._shown(token) for token in best.indices.tolist()]
            names = [form if starts else f"·{form}" for form, starts in shown]
            findings.append((f"[MASK], piece {position + 1}", _ranked(names, best.values.tolist())))
        return findings

    def _classes(self, output: ModelOutput) -> list[tuple[str, str]]:
        if not isinstance(self.model, AdaptiveAlbertForSequenceClassification):
            return []
        config, logits = self.model.config, output.logits[0].float()
        names = [config.id2label[index] for index in range(len(logits))]
        if config.problem_type == "regression" or len(logits) == 1:
            return [("score", ", ".join(f"{value:.3f}" for value in logits.tolist()))]
        several = config.problem_type == "multi_label_classification"
        ranked = (logits.sigmoid() if several else logits.softmax(dim=-1)).sort(descending=True)
        named = [names[index] for index in ranked.indices.tolist()]
        return [("classes" if several else "class", _ranked(named, ranked.values.tolist()))]


def _ranked(names: list[str], probabilities: list[float]) -> str:
    return "  ".join(f"{name} {probability:.1%}" for name, probability in zip(names, probabilities, strict=True))
