"""What each of BERT's layers keeps of its own beside the shared one: see `depthlab.models.relaxation`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from depthlab.models.convert.foreign import LAYER, Weights

RELAXATION = "albert.encoder.relaxation.{}."
SHARED = ("attention.key", "attention.value")
NORMS = ("attention.LayerNorm", "full_layer_layer_norm")


def relax_layers(layers: list[Weights], shared: Weights, rank: int, notes: list[str]) -> Weights:
    """The differences of layers from a shared one. Biases and norms are then exactly the layers' own.

    A matrix's difference is the nearest one of its rank: its singular value decomposition, cut off (Eckart and Young;
    as in Bae et al. 2024). The roots of the singular values go to either side, so that both learn alike.

    Args:
        layers: each under the names of the shared one.
        shared: the layer from which they differ.
        rank: r.
        notes: what is lost is added to them.
    """
    own, lost, there = {}, 0.0, 0.0
    for n, layer in enumerate(layers):
        for name, weight in layer.items():
            module, leaf = name.removeprefix(LAYER.format(0)).rsplit(".", 1)
            difference = weight.double() - shared[name].double()
            prefix = f"{RELAXATION.format(n)}{module}."
            if module in SHARED:
                continue
            if module in NORMS:
                own[f"{prefix}{leaf}"] = difference.to(weight.dtype)
            elif leaf == "bias":
                own[f"{prefix}up.bias"] = difference.to(weight.dtype)
            else:
                up, down, rest = low_rank(difference, rank)
                own |= {f"{prefix}up.weight": up.to(weight.dtype), f"{prefix}down.weight": down.to(weight.dtype)}
                lost, there = lost + rest, there + difference.square().sum().item()
    residual = (lost / there) ** 0.5 if there else 0.0
    notes.append(
        "approximated keys and values, shared in full; other matrices, whose differences have rank "
        f"{rank} (relative residual {residual:.3f})"
    )
    return own


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """B [out, r] and A [r, in], whose product is nearest to a matrix [out, in]; and its squared distance.

    Where the matrix itself has less than that rank, the rest of both is 0.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    roots = values[:rank].sqrt()
    more = rank - len(roots)
    up, down = left[:, :rank] * roots, roots[:, None] * right[:rank]
    return F.pad(up, (0, more)), F.pad(down, (0, 0, 0, more)), values[rank:].square().sum().item()
