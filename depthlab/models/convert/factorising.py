"""Embeddings become narrower: V x E instead of V x H, and a projection, as ALBERT has them (Lan et al. 2020, 3.1).

Shapes: V vocabulary, E embedding before, W after, H hidden, N embedding sums.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from depthlab.models.convert.foreign import PROJECTION, Weights

EMBEDDINGS = "albert.embeddings."
HEAD = "predictions."


def factorise_embeddings(weights: Weights, width: int, eps: float, notes: list[str]) -> Weights:
    """An ALBERT's weights with embeddings of another width, which can only come near those that it had.

    The MLM head, if there is one, is turned the same way: what it compared with an embedding e it now compares with
    e B, by the pseudo-inverse of B. Its layer norm starts anew, with a gain that keeps the logits' scale; the biases of
    the pieces stay.

    Args:
        weights: under ALBERT's names; not changed.
        width: W.
        eps: of the layer norms.
        notes: the residual is added to them.
    """
    weights = dict(weights)
    names = [f"{EMBEDDINGS}{part}_embeddings.weight" for part in ("word", "position", "token_type")]
    gain, shift = f"{EMBEDDINGS}LayerNorm.weight", f"{EMBEDDINGS}LayerNorm.bias"
    dtype = weights[gain].dtype
    word, position, token_type = (weights[name].double() for name in names)
    token = torch.arange(len(word))
    # Every token once, at a position and in a segment that have nothing to do with its frequency. Vocabularies are
    # listed by falling frequency; Zipf's weights bring down the residual over running text (MiniLM, W = 128: 0.70 to
    # 0.66, W = 256: 0.50 to 0.44) at 0.01 over the vocabulary.
    sums = word + position[token * 31 % len(position)] + token_type[token % len(token_type)]
    normalised = F.layer_norm(sums, sums.shape[1:], weights[gain].double(), weights[shift].double(), eps)
    target = F.linear(normalised, weights[f"{PROJECTION}weight"].double(), weights[f"{PROJECTION}bias"].double())
    basis, weight, bias, residual = factorise(sums, target, 1 / (token.double() + 100), width, eps)
    for name in names:
        weights[name] = (weights[name].double() @ basis).to(dtype)
    weights |= {gain: torch.ones(width, dtype=dtype), shift: torch.zeros(width, dtype=dtype)}
    weights |= {f"{PROJECTION}weight": weight.to(dtype), f"{PROJECTION}bias": bias.to(dtype)}
    notes.append(f"approximated embeddings factorised to E = {width}, relative residual {residual:.3f}")
    if f"{HEAD}dense.weight" in weights:
        # of rank W - 1 but for rounding, which must not be inverted
        turn = torch.linalg.pinv(basis, rtol=1e-5)  # [W, E]
        for leaf in ("weight", "bias"):
            weights[f"{HEAD}dense.{leaf}"] = (turn @ weights[f"{HEAD}dense.{leaf}"].double()).to(dtype)
        # What a layer norm puts out is as long as the root of its width: the head's logits keep their scale.
        scale = weights[f"{HEAD}LayerNorm.weight"].double().mean() * (sums.shape[1] / width) ** 0.5
        weights[f"{HEAD}LayerNorm.weight"] = scale.to(dtype).expand(width).clone()
        weights[f"{HEAD}LayerNorm.bias"] = torch.zeros(width, dtype=dtype)
        notes.append("approximated predictions.dense, turned with the embeddings; predictions.LayerNorm is new")
    return weights


def factorise(
    sums: Tensor, target: Tensor, importance: Tensor, width: int, eps: float
) -> tuple[Tensor, Tensor, Tensor, float]:
    """A target as projection(LN_W(x B)) of the embedding sums x: the basis B and the projection.

    A layer norm sees x less the mean of its components, relative to its length. So B holds the W - 1 leading right
    singular vectors of those directions, turned such that x B has components of mean 0, too: LN_W takes nothing away.
    Weight and bias of the projection are the least squares solution. Exact where the directions are of rank W - 1 and
    the target is linear in LN_E(x).

    Args:
        sums: x, [N, E], word + position + type embeddings.
        target: [N, H], what the projection gave.
        importance: [N], the weight of each in both fits.
        width: W.
        eps: of the layer norm; LN_W has weight 1 and bias 0.

    Returns:
        B [E, W]; weight [H, W] and bias [H] of the projection; and the residual over all sums alike, relative to the
        target's deviation from its mean.
    """
    directions = F.normalize(sums - sums.mean(dim=1, keepdim=True), dim=1)
    ascending = torch.linalg.eigh(directions.T * importance @ directions).eigenvectors
    leading = ascending.flip(1)[:, : width - 1]  # [E, W - 1]
    frame = torch.eye(width, dtype=sums.dtype)
    frame[:, 0] = 1.0
    of_mean_zero = torch.linalg.qr(frame).Q[:, 1:]  # [W, W - 1]
    basis = (leading - leading.mean(dim=0)) @ of_mean_zero.T
    features = F.pad(F.layer_norm(sums @ basis, (width,), eps=eps), (0, 1), value=1.0)
    scale = importance.sqrt()[:, None]
    # the features sum to 0, so of all solutions the shortest is wanted
    solution = torch.linalg.lstsq(scale * features, scale * target, rcond=1e-10, driver="gelsd").solution  # [W + 1, H]
    error, deviation = features @ solution - target, target - target.mean(dim=0)
    residual = (torch.linalg.norm(error) / torch.linalg.norm(deviation)).item()
    return basis, solution[:-1].T, solution[-1], residual
