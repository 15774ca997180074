"""Delta ADS: what a fleet of proxies shall hold, and in which order each of them gets it.

    snapshot.py           what a fleet shall hold, shared by its sessions
    session.py            one connected proxy: requests in, responses out; made of
        subscriptions.py  what the proxy asks for
        selection.py      what goes next
        holdings.py       what the proxy has and asked for, all types together
        channel.py        one resource type: subscription, records, what is to be looked at
        states.py         what the proxy has of one resource, as a table
        ordering.py       make before break: which resource waits for which cluster, when a cluster may go
        hosts.py          virtual hosts: complete first answers, removals that wait for their successors
        flights.py        responses under way: windows, chunks
        isolation.py      finding the resource that a proxy refuses
    fleet.py              all sessions of a fleet: changes out, acknowledgements in
    messages.py, wire.py  what a session hears and says, and the discovery messages
    server.py             gRPC; the only module that knows a socket or a clock
    credentials.py        its mutual TLS

It knows resources by type, name, version, bytes, what they require and where they come from, and nothing of what is in
them. All but `server.py` is free of I/O, clocks and randomness.
"""

import os

# gRPC for Python has no option for TLS 1.3 only. But this list of ciphers is for TLS 1.2, and a suite for RSA is of no
# use with our certificates, which are ECDSA. gRPC reads it when it is loaded, so it stands before all imports of it.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384")
# Else each handshake that fails, and everybody can make one fail, is a line in the midst of our log that is no JSON.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
