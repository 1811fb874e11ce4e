"""depthlab: adaptive depth for ALBERT. Importing it teaches `transformers` the model type "adaptive_albert"."""

from depthlab.models.registration import register as _register

_register()
