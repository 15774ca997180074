"""Portway: a Kubernetes ingress controller, Gateway API implementation and API gateway on Envoy.

The folders are the data flow; a change walks through them in this order, and a module imports only what stands
upstream of it (`docs/architecture.md`, held by the import contract in `pyproject.toml`):

    settings, telemetry < kubernetes < identity < objects < store < sources | incremental < model
        < translate | envoy | xds < explain < status | infra < admin < app < cli
"""

__version__ = "0.1.0"
