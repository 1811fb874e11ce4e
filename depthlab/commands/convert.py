"""`depthlab convert`: what others trained becomes a model of ours."""

from depthlab.models.convert.conversion import convert

__all__ = ["convert"]
