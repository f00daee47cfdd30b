"""Makers of the networks that serve every model: localiser, side markers, joint space, appearance. Needs the ``train`` extra."""
