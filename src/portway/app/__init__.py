"""Composition root: puts the parts together and starts them in the order of the data flow."""
