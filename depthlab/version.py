"""Which depthlab this is; known also where it runs without being installed."""

VERSION = "0.1.0"
