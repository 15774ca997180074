"""The annotations of ingress-nginx: one table, from which they are parsed, judged and documented."""
