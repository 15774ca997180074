"""What Portway does in a cluster, measured on the miniature cluster (`tests.cluster`): `make bench-cluster`.

Controller, proxy, API server and load share the machine, as they do for everybody who is compared with. Each part runs
alone too, as `python -m bench.cluster.routes`, and prints a table with the goal beside each figure. Needs root.
"""
