"""What each token of a pre-training input is, and the pools of kinds that the paper's Table 1 reports."""

from enum import IntEnum


class TokenKind(IntEnum):
    """What was drawn for a token (never inferred from ids: a random token can equal the original)."""

    PLAIN = 0  # not chosen for prediction
    MASK_MASK = 1  # chosen, replaced by [MASK]
    MASK_RANDOM = 2  # chosen, replaced by a random token
    MASK_ORIGINAL = 3  # chosen, left as it is
    CLS = 4
    SEP = 5
    PAD = 6


NOT_PREDICTED = -100
"""The label of a token that is not predicted, as in Hugging Face's models."""

POOLS: dict[str, tuple[TokenKind, ...]] = {
    "all": tuple(kind for kind in TokenKind if kind != TokenKind.PAD),
    # The authors' two pools: every token whose input id is not [MASK], and every token whose input was replaced.
    "unmasked": (TokenKind.PLAIN, TokenKind.MASK_RANDOM, TokenKind.MASK_ORIGINAL, TokenKind.CLS, TokenKind.SEP),
    "mask_replaced": (TokenKind.MASK_MASK, TokenKind.MASK_RANDOM),
    **{kind.name.lower(): (kind,) for kind in TokenKind if kind != TokenKind.PAD},
}
"""Names of depth statistics, as in the TensorBoard tags, and the kinds of token that each one pools."""


def bound_of(tag: str, bound: str) -> str:
    """The tag of an interval's bound, low or high, of what a tag names: `depth_low/all` of `depth/all`."""
    group, _, name = tag.partition("/")
    return f"{group}_{bound}/{name}"
