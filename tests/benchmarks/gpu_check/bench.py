"""What the parts of the check share: the device, sizes, the time that is left, and where results go."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AlbertModel

from depthlab.analysis.speed import same_size
from depthlab.models import AdaptiveAlbertConfig, AdaptiveAlbertModel, AdaptiveBertConfig, AdaptiveBertModel
from tests.models.imposed import ImposedHalting

SIZES = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
TOY = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "embedding_size": 16, "vocab_size": 200}
VOCABULARY = 200  # ids that are drawn: any size has them


@dataclass
class Bench:
    """The machine and the report."""

    out: Path
    """Folder of what is written."""
    minutes: float
    glue: Path | None
    device: torch.device = field(init=False)
    begun: float = field(init=False, default_factory=time.monotonic)
    ends: float = field(init=False)
    """When the present part should have ended, in seconds of the monotonic clock."""

    def __post_init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.ends = self.begun + 60 * self.minutes
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "gpu-check.md").write_text("")

    @property
    def on_gpu(self) -> bool:
        """Otherwise everything is of toy size."""
        return self.device.type == "cuda"

    @property
    def cap(self) -> int:
        """L of the paper's base model."""
        return 24 if self.on_gpu else 5

    @property
    def mean(self) -> float:
        """Its mean depth."""
        return 10.0 if self.on_gpu else 2.5

    @property
    def length(self) -> int:
        """T"""
        return 128 if self.on_gpu else 12

    @property
    def left(self) -> float:
        """Seconds that the present part still has."""
        return self.ends - time.monotonic()

    def say(self, *lines: str) -> None:
        """Print lines of Markdown, and keep them."""
        print(*lines, sep="\n", flush=True)
        with (self.out / "gpu-check.md").open("a") as file:
            print(*lines, sep="\n", file=file)

    def seconds(self, run: Callable[[], Any], rounds: int = 3) -> float:
        """Median time of a call, after one that is not counted; the device has done its work by then."""
        times = []
        for _ in range(rounds + 1):
            self.wait()
            start = time.perf_counter()
            run()
            self.wait()
            times.append(time.perf_counter() - start)
        return float(np.median(times[1:]))

    def wait(self) -> None:
        """For the device."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def depths(self, batch: int, lengths: Tensor | None = None) -> Tensor:
        """[B, T] in 1..L, spread as those of `make bench` (beta-binomial), of the mean that the model has."""
        generator = np.random.default_rng(0)
        share = (self.mean - 1) / (self.cap - 1)
        chance = generator.beta(2 * share, 2 * (1 - share), size=(batch, self.length))
        depths = torch.from_numpy(1 + generator.binomial(self.cap - 1, chance))
        if lengths is not None:
            depths = depths * (torch.arange(self.length) < lengths[:, None])
        return depths.to(self.device)

    def inputs(self, depths: Tensor) -> dict[str, Tensor]:
        """Random ids where there are depths, and their mask."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(5, VOCABULARY, depths.shape, generator=generator).to(self.device)
        return {"input_ids": ids * (depths > 0), "attention_mask": (depths > 0).long()}

    def imposed(self, depths: Tensor) -> dict[str, Any]:
        """Such inputs, for one of our models, and the rule by which it has these depths."""
        return self.inputs(depths) | {"halting_rule": ImposedHalting(depths)}

    def ours(self, untied: bool = False, **changes: Any) -> AdaptiveAlbertModel:
        """A new model of base size."""
        settings = {"num_hidden_layers": self.cap, **(SIZES if self.on_gpu else TOY), **changes}
        config_class, model_class = (
            (AdaptiveBertConfig, AdaptiveBertModel) if untied else (AdaptiveAlbertConfig, AdaptiveAlbertModel)
        )
        torch.manual_seed(0)
        return model_class(config_class(**settings), add_pooling_layer=False).to(self.device)

    def theirs(self) -> AlbertModel:
        """Hugging Face's ALBERT of the same size, at the same cap."""
        return same_size(self.ours().config).to(self.device)
