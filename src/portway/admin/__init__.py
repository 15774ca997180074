"""HTTP API of a running Portway."""
