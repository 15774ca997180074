"""Speaking with a Kubernetes API server: connection, requests, list and watch.

It knows paths and bytes, and none of the kinds that Portway reads. `connection` says where the server is and who we
are, `client` asks one question, `reflector` follows one collection for ever. Nothing here is imported by a Portway that
reads files only: the HTTP client takes 0.3 s and 25 MB.
"""
