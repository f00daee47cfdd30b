"""Audit of a data set: copies, label conflicts, leaks, confounds and suspicious images."""
