"""The time of a model's calls, by clocks that are set by hand."""

import time

import pytest
import torch
from torch import nn

from depthlab.callbacks.throughput import ForwardTimer


class Model(nn.Module):
    """Takes a second an example."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, input_ids, attention_mask=None):
        self.clock[0] += len(input_ids)


def test_only_the_models_own_time_counts(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    model = Model(clock)
    timer = ForwardTimer(model, torch.device("cpu"))
    for examples in (3, 1, 4):
        model(input_ids=torch.zeros(examples, 5), attention_mask=None)
        clock[0] += 50  # metrics, loading
    assert timer.stop() == (8.0, 8)
    model(input_ids=torch.zeros(2, 5))
    assert timer.examples == 8, "it has stopped"


def test_an_accelerator_keeps_the_time_itself(monkeypatch):
    """Events are recorded behind each other, and waited for once."""
    clock, waited = [0.0], []

    class Event:
        def __init__(self, device, enable_timing):
            assert enable_timing and device.type == "cuda"

        def record(self):
            self.time = clock[0]

        def elapsed_time(self, end):
            assert waited
            return 1000 * (end.time - self.time)  # milliseconds

    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    model = Model(clock)
    timer = ForwardTimer(model, torch.device("cuda"))
    for examples in (3, 4):
        model(input_ids=torch.zeros(examples, 5))
        clock[0] += 7
    assert timer.stop() == (pytest.approx(7.0), 7) and len(waited) == 1
