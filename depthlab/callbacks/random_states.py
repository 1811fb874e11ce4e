"""What random numbers come next: torch's, NumPy's, Python's and the device's, of every rank."""

import random
from typing import Any

import numpy as np
import torch
from torch import distributed

State = dict[str, Any]
"""Of plain types and tensors, as `torch.load(weights_only=True)` takes them."""


def states_of_all_ranks(device: torch.device) -> list[State]:
    """The states of all ranks, in order, on each of them."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": (kind, keys.tolist(), position, has_gauss, cached),
        "python": random.getstate(),
    }
    if device.type != "cpu":
        state["device"] = torch.get_device_module(device).get_rng_state(device)
    if not (distributed.is_available() and distributed.is_initialized()):
        return [state]
    states: list[State] = [{}] * distributed.get_world_size()
    distributed.all_gather_object(states, state)
    return states


def restore(states: list[State], rank: int, device: torch.device) -> None:
    """Go on with a rank's random numbers. One that there was not then keeps its own."""
    if rank >= len(states):
        return
    state = states[rank]
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    if device.type != "cpu" and "device" in state:
        torch.get_device_module(device).set_rng_state(state["device"], device)
