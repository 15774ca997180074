"""Portway's own policies."""
