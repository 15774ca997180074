"""One module per HTTP filter."""
