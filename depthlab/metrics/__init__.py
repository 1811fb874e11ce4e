"""What is measured: torchmetrics Metrics, and functions of what they count.

Each is right in batches of any size and on any number of ranks, adds up on the device, and is tested against counting
one by one. No Lightning here, no models and no tables.
"""

from depthlab.metrics.depth import DepthMetric, GroupDepthMetric, mean_depth_by_group, mean_depths
from depthlab.metrics.documents import DocumentMetric, means_over_documents
from depthlab.metrics.fixed_point import FixedPointMetric
from depthlab.metrics.intervals import bootstrap_intervals, depth_intervals
from depthlab.metrics.pretraining import PretrainingMetrics
from depthlab.metrics.tokens import TokenRecords
