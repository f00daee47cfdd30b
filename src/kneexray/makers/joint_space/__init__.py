"""Maker of the joint space network."""
