"""`depthlab report`: what runs and tables show, as Markdown and as a page that needs no network."""

from depthlab.reports.glue import glue
from depthlab.reports.page import page
from depthlab.reports.pareto import pareto
from depthlab.reports.probing import probing
from depthlab.reports.treebank import treebank

KINDS = {"page": page, "glue": glue, "pareto": pareto, "probing": probing, "treebank": treebank}
"""Of reports; without one, `depthlab report RUN ...` is the page."""
DEFAULT = "page"
