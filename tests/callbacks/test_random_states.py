import random

import numpy as np
import torch

from depthlab.callbacks.random_states import restore, states_of_all_ranks
from tests.support import by_two_processes

CPU = torch.device("cpu")


def draw():
    """A few numbers of each kind; normal ones come in pairs, of which the second is kept."""
    return torch.rand(3).tolist(), np.random.normal(size=3).tolist(), [random.gauss(0, 1) for _ in range(3)]


def test_the_next_numbers_are_the_same(tmp_path):
    draw()
    torch.save(states_of_all_ranks(CPU), tmp_path / "states.pt")
    numbers = draw()
    assert draw() != numbers
    restore(torch.load(tmp_path / "states.pt", weights_only=True), 0, CPU)
    assert draw() == numbers


def measure(rank):
    torch.manual_seed(rank), np.random.seed(rank), random.seed(rank)
    states, numbers = states_of_all_ranks(CPU), draw()
    restore(states, rank, CPU)
    again = draw()
    restore(states, 2, CPU)  # a rank that there was not
    return numbers, again, draw(), len(states)


def test_each_rank_has_its_own(tmp_path):
    ranks = by_two_processes(measure, tmp_path)
    for numbers, again, later, count in ranks:
        assert numbers == again != later and count == 2
    assert ranks[0][0] != ranks[1][0]
