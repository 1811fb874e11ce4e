"""Text in, batches out.

Here: what the rooms share, that is tokenizers, steps cut for ranks, batches of similar length. In the rooms: what is
read, and a Lightning data module of it. Not here: models, tasks and whatever is made of batches.
"""
