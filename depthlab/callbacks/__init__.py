"""What is watched, and kept, while a run goes on."""

from depthlab.callbacks.ponder import PonderMonitor
from depthlab.callbacks.progress import ProgressBar
from depthlab.callbacks.resumable import Resumable
from depthlab.callbacks.throughput import ThroughputMonitor

__all__ = ["PonderMonitor", "ProgressBar", "Resumable", "ThroughputMonitor"]
