"""Text in, batches out: documents, tokenizer, masking, and the Lightning data modules."""
