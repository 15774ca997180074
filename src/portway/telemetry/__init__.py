"""Logs and metrics of Portway itself; used by shells, never by pure parts."""
