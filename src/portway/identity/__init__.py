"""Who is who between control plane and proxies: an authority of Portway's own, certificates for tokens, mutual TLS.

    authorities   the keys that sign, and how they follow one another (pure)
    certificates  keys, requests, certificates and the names in them (pure)
    keeper        the authorities as a Secret, shared by all replicas
    tokens        what a ServiceAccount token proves, as the API server says
    issuer        who gets which certificate (the control plane's side)
    places        where a proxy's Node is
    service       the issuer's door, HTTPS
    serving       what the control plane shows and asks of others: TLS contexts and files that follow the authorities
    obtain        a proxy's side: key, request, renewal

`contract.py` holds the names, ports and paths on which control plane, proxies and manifests agree.
"""
