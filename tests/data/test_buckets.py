import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthlab.data.buckets import BucketSampler
from depthlab.errors import UserError


@given(
    count=st.integers(1, 300),
    batch_size=st.sampled_from([4, 8, 32]),
    world_size=st.sampled_from([1, 2]),
    accumulate=st.sampled_from([1, 2]),
    epoch=st.integers(0, 3),
)
def test_sampler(count, batch_size, world_size, accumulate, epoch):
    lengths = np.random.default_rng(count).integers(5, 60, 400)
    rows = np.random.default_rng(count).permutation(400)[:count]
    pieces = world_size * accumulate
    if count < pieces:
        with pytest.raises(UserError, match=f"the {count} training examples are fewer than the {pieces} pieces"):
            BucketSampler(rows, lengths, batch_size, 0, world_size, 0, accumulate)
        return
    samplers = [BucketSampler(rows, lengths, batch_size, 0, world_size, rank, accumulate) for rank in range(world_size)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    epochs = [list(sampler) for sampler in samplers]
    assert {len(steps) for steps in epochs} == {len(samplers[0])}
    micro_batches = [batch for steps in epochs for step in steps for batch in step]
    assert len(micro_batches) == len(samplers[0]) * pieces
    assert sorted(np.concatenate(micro_batches)) == sorted(rows)
    sizes = [len(batch) for batch in micro_batches]
    assert 0 < min(sizes) >= max(sizes) - 2
    assert max(sizes) <= max(batch_size // pieces, 2)
    resumed = BucketSampler(rows, lengths, batch_size, 0, world_size, 0, accumulate, steps_done=lambda: 1)
    resumed.set_epoch(epoch)
    rest, whole = ([np.concatenate(step).tolist() for step in steps] for steps in (resumed, epochs[0]))
    assert rest == whole[1:]


def test_lengths_are_bucketed():
    lengths = np.random.default_rng(0).integers(5, 60, 4000)
    sampler = BucketSampler(np.arange(4000), lengths, 32, 0)
    batches = [step[0] for step in sampler]
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert lengths.sum() > 0.97 * padded
    widths = [lengths[batch].max() for batch in batches]
    assert widths != sorted(widths)
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.3  # not from long to short
