"""The formulas of a plan against what is measured: operations, saved tensors, states and files."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from depthlab.analysis.costs import (
    activation_bytes,
    cast_bytes,
    corpus_bytes,
    optimizer_bytes,
    parameter_count,
    spread_depths,
    training_flops,
)
from depthlab.data.corpora.preparation import prepare
from depthlab.data.corpora.pretraining import PretrainingDataModule
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertForPreTraining
from depthlab.optim import Lamb, MuonWithAdamW, parameter_groups
from tests.support import write_corpus

SIZES = {
    **{"vocab_size": 500, "embedding_size": 32, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256},
    **{"max_position_embeddings": 64, "num_hidden_layers": 6, "halting_bias_init": -1.0, "initializer_range": 0.2},
}
PREDICTED = 9
CONFIGS = {
    "compact": {},
    "accumulate": {"act_update": "accumulate", "act_cap": "remainder"},
    "dense": {"execution": "dense"},
    "eager": {"attn_implementation": "eager"},
    "fixed": {"halting": "fixed"},
    "bert": {"halting": "fixed", "num_hidden_groups": 6, "embedding_size": 64},
}


def model_of(name: str, **changes) -> AdaptiveAlbertForPreTraining:
    torch.manual_seed(0)
    return AdaptiveAlbertForPreTraining(AdaptiveAlbertConfig(**SIZES | CONFIGS[name] | changes)).train()


def loss_of(model, batch: int = 4, length: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Of whole sequences, and their depths."""
    ids = torch.randint(5, 500, (batch, length), generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(ids, -100)
    labels[:, 3 : 3 + PREDICTED] = 7
    order = torch.zeros(batch, dtype=torch.long)
    output = model(input_ids=ids, labels=labels, sentence_order_label=order)
    return output.loss, output.depths


def planned_depths(model, depths: torch.Tensor) -> torch.Tensor:
    """What a plan makes of their mean."""
    return spread_depths(depths.double().mean().item(), 6, depths.shape[1])


@pytest.mark.parametrize("mean", [1.0, 1.5, 2.7, 3.5, 5.2, 6.0])
def test_spread_depths_have_the_mean(mean):
    depths = spread_depths(mean, 6, 128)
    assert depths.double().mean().item() == pytest.approx(mean, abs=0.1)
    assert depths.min() >= 1 and depths.max() <= 6 and depths.shape == (1, 128)


@pytest.mark.parametrize("name", CONFIGS)
def test_operations_of_a_step(name):
    """Of the model's own depths, of which the plan knows the mean only."""
    model = model_of(name, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        loss, depths = loss_of(model)
        loss.backward()
    if name in ("compact", "accumulate", "eager"):
        assert 1.5 < depths.double().mean() < 5.5 and depths.unique().numel() > 2
    depth = planned_depths(model, depths if name != "dense" else torch.full_like(depths, int(depths.max())))
    planned = 4 * training_flops(model, depth, PREDICTED)
    assert planned == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_operations_grow_with_depth_and_with_forward_passes():
    model = model_of("compact")
    shallow, deep = (training_flops(model, spread_depths(mean, 6, 48)) for mean in (2.0, 4.0))
    assert 1.7 < deep / shallow < 2.2
    assert training_flops(model, spread_depths(2.0, 6, 48), forwards=2) == pytest.approx(shallow * 4 / 3)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_kept_for_the_backward_pass(name, mixed):
    """Against the storages that torch saves, each once; those of parameters are not activations."""
    model = model_of(name)
    seen = {parameter.untyped_storage().data_ptr(): 0 for parameter in model.parameters()}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen.setdefault(storage.data_ptr(), storage.nbytes())
        held.append(storage)  # or its place is taken by another
        return tensor

    saving = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with saving, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        _, depths = loss_of(model)
    kept = 4 * activation_bytes(model, planned_depths(model, depths), PREDICTED, mixed, on_cpu=True)
    kept += cast_bytes(model, mixed)
    assert kept == pytest.approx(sum(seen.values()), rel=0.1)


@pytest.mark.parametrize("make", [Lamb, MuonWithAdamW, torch.optim.AdamW, torch.optim.SGD])
def test_states_and_checkpoints(make, tmp_path):
    """Parameters exactly; the state of the optimiser after a real step; both in a file."""
    model = model_of("compact", hidden_size=128, intermediate_size=512)
    assert parameter_count(model) == sum(weight.numel() for weight in set(model.parameters()))
    optimizer = make(parameter_groups(model), lr=0.1)
    loss_of(model)[0].backward()
    optimizer.step()
    file = tmp_path / "x.ckpt"
    torch.save({"state_dict": dict(model.named_parameters()), "optimizer_states": [optimizer.state_dict()]}, file)
    planned = 4 * parameter_count(model) + optimizer_bytes(model, lambda groups: make(groups, lr=0.1))
    assert planned == pytest.approx(file.stat().st_size, rel=0.1)


def test_a_prepared_corpus(tmp_path):
    write_corpus(tmp_path / "corpus.txt")
    text = (tmp_path / "corpus.txt").read_text()
    (tmp_path / "corpus.txt").write_text("\n\n".join(text.replace(".", f"a{number}.") for number in range(40)))
    sizes = {"vocab_size": 300, "max_length": 64, "cache_dir": str(tmp_path / "cache")}
    module = PretrainingDataModule(corpus=str(tmp_path / "corpus.txt"), **sizes)
    assert module.volume() is None
    (folder,) = prepare(module._places(), 1).chunks
    counts = module.volume().text
    stored = sum(file.stat().st_size for file in folder.glob("*.arrow"))
    planned = corpus_bytes(*(counts[name] for name in ("tokens", "sentences", "chunks", "grams")), 300)
    assert planned == pytest.approx(stored, rel=0.1)
