"""Attention masks, in every form that Hugging Face's models take.

- [B, T]: 0 on padding.
- [B, T, T]: 1 where the query (dimension 1) attends to the key (dimension 2).
- [B, 1 or A, T, T]: the same, for all heads or for each; or, of floating point, what is added to the scores: 0 where
  the query attends, a large negative number where it does not.
"""

import torch
from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from depthlab.errors import UserError

NEVER = -9e3
"""What is added to a score that is not to count is less; -10,000 is usual, and half precision rounds it."""


def real_tokens(attention_mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """[B, T] bool, False on padding: where the mask says so; in one of queries and keys, where nobody attends to.

    Raises:
        ValueError: the mask has none of these forms.
    """
    batch, length = shape
    if attention_mask.ndim == 2 and attention_mask.shape == shape:
        return attention_mask.bool()
    whole = attention_mask[:, None] if attention_mask.ndim == 3 else attention_mask
    if whole.ndim != 4 or (whole.shape[0], *whole.shape[2:]) != (batch, length, length):
        raise ValueError(
            f"attention_mask must be [B, T] = {list(shape)}, [B, T, T] or [B, 1 or A, T, T], got "
            f"{list(attention_mask.shape)}"
        )
    return _attended(attention_mask).view_as(whole).any(dim=1).any(dim=1)


def attention_bias(config, embeddings: Tensor, attention_mask: Tensor | None, additive: bool) -> Tensor | None:
    """The mask as attention functions take it, broadcasting to [B, A, T, T]; None where everybody attends to all.

    Args:
        config: the model's, which names the attention function.
        embeddings: [B, T, E], for shape and precision.
        attention_mask: one that `real_tokens` has taken.
        additive: whether it is to be one of numbers, whatever the configuration's function takes.
    """
    if attention_mask is not None and attention_mask.ndim > 2:
        mask = attention_mask[:, None] if attention_mask.ndim == 3 else attention_mask
        mask = mask if mask.is_floating_point() else mask.bool()
    else:
        mask = create_bidirectional_mask(config=config, inputs_embeds=embeddings, attention_mask=attention_mask)
    if mask is None:
        return None
    if mask.dtype == torch.bool and (additive or config._attn_implementation == "eager"):
        return as_numbers(mask, embeddings.dtype)
    return mask.to(embeddings.dtype) if mask.is_floating_point() else mask


def as_numbers(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the scores where a mask of bool is to hold."""
    return torch.where(mask, torch.zeros((), dtype=dtype, device=mask.device), torch.finfo(dtype).min)


def _attended(attention_mask: Tensor) -> Tensor:
    """Where the query attends to the key, bool.

    Raises:
        UserError: it can't be told.
    """
    if not attention_mask.is_floating_point():
        return attention_mask.bool()
    if attention_mask.ndim == 3:
        raise UserError(
            "an attention_mask [B, T, T] of floating point may mean shares or scores: give it as integers or bool, 1 "
            "where the query attends, or as [B, 1, T, T], with what is added to the scores"
        )
    return attention_mask > NEVER
