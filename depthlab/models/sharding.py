"""Ranks that share out a layer's weights have to run it equally often, however deep the tokens of each go."""

import torch
from torch import distributed, nn


@torch.compiler.disable
def goes_on(runs: bool, layers: nn.Module) -> bool:
    """Whether there is another iteration: where ranks share out the layers' weights, as long as one of them needs it.

    They collect these weights together before each call of the layer.

    Args:
        runs: whether a token still runs on this rank.
        layers: of the encoder.
    """
    if not (distributed.is_available() and distributed.is_initialized() and _is_sharded(layers)):
        return runs
    anywhere = torch.tensor(runs, dtype=torch.int, device=next(layers.parameters()).device)
    distributed.all_reduce(anywhere, distributed.ReduceOp.MAX)
    return bool(anywhere)


def _is_sharded(layers: nn.Module) -> bool:
    """Whether a layer is collected by itself: FSDP, 1 or 2, or DeepSpeed's ZeRO-3."""
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel  # a second and a half to import

    fsdp = any(isinstance(module, FSDPModule | FullyShardedDataParallel) for module in layers.modules())
    return fsdp or any(hasattr(parameter, "ds_id") for parameter in layers.parameters())
