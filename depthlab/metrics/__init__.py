"""What is measured: torchmetrics Metrics that are right under DDP."""

from depthlab.metrics.depth import DepthMetric, LabelDepthMetric, mean_depths
from depthlab.metrics.pretraining import PretrainingMetrics

__all__ = ["DepthMetric", "LabelDepthMetric", "PretrainingMetrics", "mean_depths"]
