"""Scores of sentences by a masked language model: how surprising each word is where it stands.

Shapes: B sentences, T length, C copies of sentences with a word masked in each.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

NO_WORD = -1
"""Of special tokens and padding."""


def masked_word_losses(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor, words: Tensor, mask_id: int
) -> Tensor:
    """The loss of each piece when its whole word is masked: the others of the word give nothing away.

    It takes a forward pass of the sentence for every word; as many copies are computed at once as there are sentences.

    Args:
        model: of ours, with a head that predicts masked pieces.
        input_ids: [B, T].
        attention_mask: [B, T], 1 = real.
        words: [B, T], number of each piece's word in its sentence; `NO_WORD` where there is none.
        mask_id: id of [MASK].

    Returns:
        [B, T] fp32: cross entropy in nats; nan where there is no word.
    """
    losses = torch.full(input_ids.shape, torch.nan, device=input_ids.device)
    sentences = torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(words)
    masked = torch.stack([sentences, words], dim=-1)[words != NO_WORD].unique(dim=0)  # [copies, 2]
    for sentence, word in (chunk.unbind(dim=1) for chunk in masked.split(len(input_ids))):
        chosen = words[sentence] == word[:, None]  # [C, T]
        ids = input_ids[sentence].masked_fill(chosen, mask_id)
        states = model.base_model(input_ids=ids, attention_mask=attention_mask[sentence]).last_hidden_state
        copies, positions = chosen.nonzero(as_tuple=True)
        rows = sentence[copies]
        logits = model.predictions(states[copies, positions])
        losses[rows, positions] = F.cross_entropy(logits.float(), input_ids[rows, positions], reduction="none")
    return losses
