"""Measurements on a knee: joint space width."""
