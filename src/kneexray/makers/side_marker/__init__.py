"""Maker of the reader of side markers."""
