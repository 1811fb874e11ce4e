"""depthlab: adaptive depth for ALBERT. Importing it teaches `transformers` the model type "adaptive_albert"."""

import depthlab.models  # noqa: F401
