"""Running text for pre-training: documents, their preparation, masking, the data module.

Not here: labelled texts (benchmarks/) and annotated sentences (treebanks/).
"""
