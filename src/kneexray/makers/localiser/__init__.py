"""Maker of the joint localiser."""
