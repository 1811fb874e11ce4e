"""Weights that two gloo processes share out, layer by layer (FSDP2), against one process that has them all."""

import pytest
import torch

from depthlab.models import AdaptiveAlbertForMaskedLM
from depthlab.models.halting.act import Act
from depthlab.models.imposed import impose
from tests.models.conftest import ragged_inputs
from tests.models.variants import EVERY_WAY, build, name_of, set_checkpointing
from tests.support import by_two_processes

DEEPEST = [2, 5]  # on each rank
KINDS = [(number, checkpointing) for number in range(len(EVERY_WAY)) for checkpointing in (False, True)]


def run(model, rank, way):
    """Loss of a rank's batch, of which the tokens of one rank halt long before those of the other."""
    torch.manual_seed(rank)
    inputs = ragged_inputs([[9, 4, 7], [3, 2, 5]][rank], vocab_size=120)
    if way.get("halting") != "fixed":
        inputs["halting_rule"] = impose(Act(act_cap="remainder"), inputs["attention_mask"] * DEEPEST[rank])
    return model(**inputs, labels=inputs["input_ids"])


def shared_out(rank):
    from torch.distributed.fsdp import fully_shard

    found = {}
    for number, checkpointing in KINDS:
        torch.manual_seed(0)
        model = build(AdaptiveAlbertForMaskedLM, **EVERY_WAY[number]).train()
        if checkpointing:
            set_checkpointing(model, True)
        for group in model.albert.encoder.albert_layer_groups:
            fully_shard(group.albert_layers[0])
        fully_shard(model)
        run(model, rank, EVERY_WAY[number]).loss.backward()
        model.zero_grad()
        output = run(model, rank, EVERY_WAY[number])
        output.loss.backward()
        gradients = {name: p.grad.full_tensor() for name, p in model.named_parameters() if p.grad is not None}
        found[number, checkpointing] = gradients, output.loss.detach(), output.depths
    return found


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:.*returned a view tensor:UserWarning")
def test_fsdp_equals_one_process(tmp_path):
    """Also where one rank needs more iterations: the other goes along, with no token running."""
    ranks = by_two_processes(shared_out, tmp_path)
    for number, checkpointing in KINDS:
        way = EVERY_WAY[number]
        torch.manual_seed(0)
        model = build(AdaptiveAlbertForMaskedLM, **way).train()
        outputs = [run(model, rank, way) for rank in range(2)]
        (sum(output.loss for output in outputs) / 2).backward()
        for rank, output in zip(ranks, outputs, strict=True):
            gradients, loss, depths = rank[number, checkpointing]
            torch.testing.assert_close(loss, output.loss)
            assert torch.equal(depths, output.depths)
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    torch.testing.assert_close(gradients[name], parameter.grad, msg=f"{name_of(way)}: {name}")
