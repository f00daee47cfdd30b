"""Labelled radiographs: manifests, the public data sets and their traps."""
