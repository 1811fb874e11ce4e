"""What is learnt from a teacher, against sums over sequences and tokens."""

import pytest
import torch
from torch.nn import functional as F
from transformers import BertModel

from depthlab.errors import UserError
from depthlab.tasks.teaching import LOSSES, Answer, Teacher

LENGTHS = (7, 4)


@pytest.fixture(scope="module")
def original(bert):
    return BertModel.from_pretrained(bert).eval()


@pytest.fixture
def inputs():
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return {"input_ids": torch.randint(5, 58, (2, 7)), "attention_mask": mask, "token_type_ids": torch.zeros_like(mask)}


@pytest.mark.parametrize(("cap", "taught"), [(8, {2: 1, 4: 2, 6: 3, 8: 4}), (2, {1: 2, 2: 4}), (6, {3: 2, 6: 4})])
def test_losses_are_what_they_say(bert, original, inputs, cap, taught):
    states = tuple(torch.randn(2, 7, 16) for _ in range(cap + 1))
    last = torch.randn(2, 7, 16)
    depths = torch.randint(cap // 2, cap + 1, (2, 7)) * inputs["attention_mask"]
    depths[:, 0] = cap
    answer = Answer(last, states, depths)
    found = Teacher(str(bert), original.config, dict.fromkeys(LOSSES, 1.0)).losses(inputs, answer)
    with torch.no_grad():
        targets = original(**inputs, output_hidden_states=True).hidden_states

    def distance(state, target):
        return (((state - target) ** 2).sum() / (target**2).sum()).item()

    for row, length in enumerate(LENGTHS):
        layers = [
            distance(states[n][row, t], targets[k][row, t])
            for n, k in taught.items()
            for t in range(length)
            if n <= depths[row, t]
        ]
        ends = [distance(last[row, t], targets[-1][row, t]) for t in range(length)]
        assert found["layers"].means[row].item() == pytest.approx(sum(layers) / len(layers), rel=1e-5)
        assert found["last"].means[row].item() == pytest.approx(sum(ends) / len(ends), rel=1e-5)
    ours, theirs = (
        [states_[row, :length].mean(dim=0) for row, length in enumerate(LENGTHS)] for states_ in (last, targets[-1])
    )
    for row, other in ((0, 1), (1, 0)):
        direction = 1 - F.cosine_similarity(ours[row], theirs[row], dim=0)
        gap = F.cosine_similarity(ours[row], ours[other], dim=0) - F.cosine_similarity(
            theirs[row], theirs[other], dim=0
        )
        torch.testing.assert_close(found["direction"].means[row], direction, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found["pairs"].means[row], gap**2 / 2, rtol=1e-3, atol=1e-6)  # with itself: 0


def test_the_teacher_has_nothing_to_learn_from_itself(bert, original, inputs):
    output = original(**inputs, output_hidden_states=True)
    answer = Answer(output.last_hidden_state, output.hidden_states, 4 * inputs["attention_mask"])
    for loss in Teacher(str(bert), original.config, dict.fromkeys(LOSSES, 1.0)).losses(inputs, answer).values():
        torch.testing.assert_close(loss.means, torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"layer": 1.0}, "there is no 'layer' to learn"),
        ({"last": -1.0}, "teaches.last must not"),
        ({"last": 0.0}, "nothing to learn"),
    ],
)
def test_a_users_mistakes(bert, original, weights, message):
    with pytest.raises(UserError, match=message):
        Teacher(str(bert), original.config, weights)
