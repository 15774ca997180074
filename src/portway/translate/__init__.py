"""Queries from objects to the model, with verdicts."""
