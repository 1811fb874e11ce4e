"""What is measured: torchmetrics Metrics that are right under DDP."""

from depthlab.metrics.depth import DepthMetric, LabelDepthMetric, mean_depths
from depthlab.metrics.fixed_point import FixedPointMetric
from depthlab.metrics.intervals import DocumentDepthMetric, bootstrap_intervals, depth_intervals
from depthlab.metrics.pretraining import PretrainingMetrics
from depthlab.metrics.tokens import TokenRecords

__all__ = [
    "DepthMetric",
    "DocumentDepthMetric",
    "FixedPointMetric",
    "LabelDepthMetric",
    "PretrainingMetrics",
    "TokenRecords",
    "bootstrap_intervals",
    "depth_intervals",
    "mean_depths",
]
