"""What scores are called; apart from frames, so that a model card needs none."""

SCORES = {  # tag: what it is called
    "score": "score",
    "accuracy": "accuracy",
    "accuracy_mismatched": "accuracy, mismatched",
    "f1": "F1",
    "matthews_corrcoef": "Matthews correlation",
    "spearman": "Spearman correlation",
    "pearson": "Pearson correlation",
    "span_f1": "F1 of spans",
    "glue_score": "mean of the metrics (GLUE's own score)",
}
