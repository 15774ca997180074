"""The proxies themselves."""
