"""Probes of a model: shortcut tests, and whether its heatmap shows what the answer rests on."""
