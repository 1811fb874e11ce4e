"""What is watched, and kept, while a run goes on."""

from depthlab.callbacks.ponder import PonderMonitor
from depthlab.callbacks.resumable import Resumable
from depthlab.callbacks.throughput import ThroughputMonitor

__all__ = ["PonderMonitor", "Resumable", "ThroughputMonitor"]
