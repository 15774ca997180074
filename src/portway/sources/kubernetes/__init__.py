"""A Kubernetes API server as a source of objects.

`source` is the shell: one reflector for each collection that `scope` names, and one batch that hands out what they
report. `batch`, `demand` and `scope` decide and know no event loop; `material` follows Secrets and ConfigMaps, of which
only those are kept that somebody refers to. `docs/design/kubernetes-source.md` has the reasons.
"""
