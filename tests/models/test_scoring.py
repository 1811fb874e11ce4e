"""The loss of masked words, against one copy of a sentence at a time."""

import torch
from torch.nn.functional import cross_entropy

from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForMaskedLM
from depthlab.models.scoring import NO_WORD, masked_word_losses
from tests.models.conftest import SIZES

MASK = 4


def test_every_piece_is_predicted_while_its_whole_word_is_masked():
    torch.manual_seed(0)
    model = AdaptiveAlbertForMaskedLM(AdaptiveAlbertConfig(**SIZES, execution="dense")).eval()
    ids = torch.randint(5, model.config.vocab_size, (3, 7))
    words = torch.tensor([[NO_WORD, 0, 1, 1, 2, 3, NO_WORD], [NO_WORD, 0, 0, 0, 1, NO_WORD, NO_WORD], [NO_WORD] * 7])
    mask = torch.tensor([[1] * 7, [1] * 6 + [0], [1] * 7])
    expected = torch.full(ids.shape, torch.nan)
    with torch.no_grad():
        for row, col in (words != NO_WORD).nonzero().tolist():
            masked = ids[[row]].masked_fill(words[[row]] == words[row, col], MASK)
            logits = model(input_ids=masked, attention_mask=mask[[row]]).logits[0]
            expected[row, col] = cross_entropy(logits[col], ids[row, col])
        actual = masked_word_losses(model, ids, mask, words, MASK)
    torch.testing.assert_close(actual, expected, equal_nan=True)
