"""Evaluations and comparisons as files: figures, tables, pages."""
