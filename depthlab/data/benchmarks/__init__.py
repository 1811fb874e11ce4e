"""Labelled texts for fine-tuning and evaluation: a file that reads a benchmark, a data module on `LabelledDataModule`.

Not here: what is shared by all data modules (data/), scores (metrics/) and tables of them (reports/).
"""
