import pytest
import torch

SIZES = {
    "vocab_size": 60,
    "embedding_size": 8,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
}


@pytest.fixture
def sizes():
    return dict(SIZES)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def ragged_inputs(lengths, vocab_size=60, extra_padding=0):
    """Random ids [B, T] with padding on the right, mask and token types."""
    width = max(lengths) + extra_padding
    input_ids = torch.zeros(len(lengths), width, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    token_type_ids = torch.zeros_like(input_ids)
    for row, length in enumerate(lengths):
        input_ids[row, :length] = torch.randint(5, vocab_size, (length,))
        attention_mask[row, :length] = 1
        token_type_ids[row, length // 2 : length] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
