"""Evaluation: where answers come from, what they are worth with intervals, shortcut tests, and the pages that say so."""
