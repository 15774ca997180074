#!/bin/sh
# What the benchmarks compare with: wrk for the load, nginx and HAProxy (Debian packages) and Traefik (in bench/.venv);
# and what Portway itself requires.
# What cannot be installed is named; `make bench` then leaves it out.
set -eu
cd "$(dirname "$0")"

missing=""
command -v wrk >/dev/null || missing="$missing wrk"
PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || missing="$missing nginx-light"
PATH="$PATH:/usr/sbin" command -v haproxy >/dev/null || missing="$missing haproxy"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        # Unquoted: a list of packages.
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "bench: not installed:$missing; as root: apt-get install$missing" >&2
    fi
fi

# In a cluster Portway is measured as it is installed: what only development needs would weigh 4 MiB in each process.
if [ ! -e .venv/installed ] || [ ../requirements.lock -nt .venv/installed ] || [ requirements.lock -nt .venv/installed ]
then
    "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r ../requirements.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock &&
        touch .venv/installed || echo "bench: Traefik cannot be installed; it is left out" >&2
fi
