"""What is measured: torchmetrics Metrics that are right under DDP."""

from depthlab.metrics.depth import DepthMetric, LabelDepthMetric, mean_depths
from depthlab.metrics.intervals import DocumentDepthMetric, depth_intervals
from depthlab.metrics.pretraining import PretrainingMetrics

__all__ = [
    "DepthMetric",
    "DocumentDepthMetric",
    "LabelDepthMetric",
    "PretrainingMetrics",
    "depth_intervals",
    "mean_depths",
]
