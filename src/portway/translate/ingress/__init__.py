"""Ingress and its annotations."""
