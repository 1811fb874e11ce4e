"""Says at the start how large a model is, in a line."""

from typing import Any

from lightning.pytorch.callbacks import ModelSummary


class SizeLine(ModelSummary):
    """Lightning's summary without its table, whose FLOPs are 0 for models that it has no example input of."""

    @staticmethod
    def summarize(summary_data: Any, total_parameters: int, trainable_parameters: int, *_: Any, **__: Any) -> None:
        """Called by Lightning on the first rank."""
        print(f"parameters   {total_parameters:,}, {trainable_parameters:,} of them trained", flush=True)
