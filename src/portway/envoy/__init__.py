"""Queries from the model to Envoy's resources."""
