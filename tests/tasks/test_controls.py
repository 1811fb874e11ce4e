from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from depthlab.kinds import TokenKind
from depthlab.tasks.controls import control_depths

CLS, SEP, PAD, PLAIN = TokenKind.CLS, TokenKind.SEP, TokenKind.PAD, TokenKind.PLAIN


@st.composite
def batches(draw):
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        words = draw(st.integers(0, 8))
        kinds = [CLS, *[PLAIN] * words, SEP, *[PAD] * (8 - words)]
        depths = [draw(st.integers(1, 6)) if kind != PAD else 0 for kind in kinds]
        rows.append((kinds, depths, [draw(st.integers(0, 4)) for _ in kinds]))
    return [torch.tensor(part) for part in zip(*rows, strict=True)]


@given(batches(), st.booleans())
def test_every_text_keeps_its_depths_and_its_special_tokens(batch, by_frequency):
    kinds, depths, frequencies = batch
    index = torch.arange(len(kinds))
    controlled = control_depths(depths, kinds, index, frequencies if by_frequency else None)
    fixed = kinds != PLAIN
    assert torch.equal(controlled[fixed], depths[fixed])
    for row in range(len(kinds)):
        assert Counter(controlled[row].tolist()) == Counter(depths[row].tolist())
        alone = control_depths(depths[[row]], kinds[[row]], index[[row]], frequencies[[row]] if by_frequency else None)
        assert torch.equal(alone[0], controlled[row])  # whatever else is in its batch
        if by_frequency:
            words = kinds[row] == PLAIN
            own, often = controlled[row][words], frequencies[row][words]
            assert all((often[own > depth] <= frequency).all() for depth, frequency in zip(own, often, strict=True))


def test_shuffling_depends_on_the_text_and_moves_something():
    kinds = torch.tensor([[CLS, *[PLAIN] * 30, SEP]] * 2)
    depths = torch.arange(32).expand(2, 32) % 7 + 1
    one, other = control_depths(depths, kinds, torch.tensor([0, 1]))
    assert not torch.equal(one, other) and not torch.equal(one, depths[0])
