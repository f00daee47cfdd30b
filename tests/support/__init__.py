"""Makers of films, runs, servers and models for the tests."""
