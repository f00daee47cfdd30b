"""Rendering: heatmaps, films and knees as pictures, and results in words."""
