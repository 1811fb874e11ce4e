"""What is watched, and kept, while a run goes on.

They measure, log and write files. `FixedPointMonitor`, `PonderMonitor` and `TreebankDepth` work in anybody's Lightning
project, on any module with an adaptive ALBERT in it. Tables for readers are made by reports, never here.
"""

from depthlab.callbacks.bad_numbers import BadNumberSearch
from depthlab.callbacks.best import BestCheckpoint
from depthlab.callbacks.checkpoint_io import WholeCheckpoints
from depthlab.callbacks.collapse import DepthCollapse
from depthlab.callbacks.dashboard import Dashboard
from depthlab.callbacks.data_check import DataCheck
from depthlab.callbacks.export import ExportAtEnd
from depthlab.callbacks.finite import FiniteSteps
from depthlab.callbacks.fixed_point import FixedPointMonitor
from depthlab.callbacks.ponder import PonderMonitor
from depthlab.callbacks.predictions import PredictionWriter
from depthlab.callbacks.progress import ProgressBar
from depthlab.callbacks.reporter import Reporter
from depthlab.callbacks.resumable import Resumable
from depthlab.callbacks.summary import SizeLine
from depthlab.callbacks.throughput import ThroughputMonitor
from depthlab.callbacks.token_table import TokenTable
from depthlab.callbacks.treebank import TreebankDepth
