"""Verdicts and acknowledgements to conditions."""
