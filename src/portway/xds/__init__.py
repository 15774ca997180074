"""Delta ADS: protocol, ordering, server."""
