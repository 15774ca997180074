"""Fleets in a cluster: a workload and a Service for each Gateway and IngressClass.

`names` and `manifests` (with `workload`, `service`) say what is to be there, `reconciling` what has to be done for it,
`addresses` what may be told of it; all pure. `applier` writes, `observer` watches. `rbac` lists the rights that both
need. See docs/design/fleets.md.
"""
