"""Recipes: every choice of a training run."""
