"""Export: from a run folder to a model bundle, its card and its 8-bit form."""
