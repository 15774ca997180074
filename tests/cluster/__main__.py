"""`make cluster`: start a miniature cluster to play with; it ends with Ctrl-C."""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster import binaries
from tests.cluster.cluster import ClusterFailed, MiniCluster
from tests.cluster.network import API_SERVER, GATEWAY, LOAD_BALANCERS, PODS, SERVICES
from tests.cluster.outline import FOLDER_PREFIX, Outline

HELP = """
A Kubernetes cluster is running ({seconds:.0f} s). It ends with Ctrl-C, or with this shell.

In another shell, as root:

  export KUBECONFIG={kubeconfig}
  export PATH={programs}:$PATH
  kubectl get nodes -o wide

Pods, Services and LoadBalancer addresses live in a network of their own. A shell in it:

  nsenter --net=/proc/{pid}/ns/net
  export KUBECONFIG={inner_kubeconfig}

  pods {pods}x.x      Services {services}      LoadBalancer addresses {load_balancers}
  API server {api_server}      DNS {gateway} (only pods ask it: name.namespace.svc)

Images: an image with `portway` in its name is this checkout; `local` runs the command that the pod names
on this machine's files. Example:

  kubectl create deployment web --image=local -- python3 -u -m http.server 8080
  kubectl expose deployment web --port=80 --target-port=8080 --type=LoadBalancer
  kubectl get pods,services -o wide
  kubectl logs deployment/web
  {inside} curl -s http://<EXTERNAL-IP>/

Portway, and a shop behind it (README.md, "In a cluster", says what to ask it):

  kubectl apply --server-side -k deploy/
  kubectl apply -k examples/cluster

Logs of the control plane: {folder}/control-plane
"""


async def play(outline: Outline) -> None:
    """Start, explain, wait for the end."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ending.set)
    began = loop.time()
    async with MiniCluster.started(outline) as cluster:
        say(
            HELP.format(
                seconds=loop.time() - began,
                kubeconfig=cluster.kubeconfig,
                inner_kubeconfig=cluster.inner_kubeconfig,
                programs=f"{Path(sys.executable).parent}:{binaries.build(binaries.kube())}",
                pid=cluster.state.pid,
                pods=PODS,
                services=SERVICES,
                load_balancers=LOAD_BALANCERS,
                api_server=API_SERVER,
                gateway=GATEWAY,
                inside=" ".join(cluster.command_inside()),
                folder=outline.folder,
            )
        )
        await ending.wait()
        say("stopping")


def say(text: str) -> None:
    """To the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("--channel", choices=["standard", "experimental", ""], default="standard")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as folder:
        try:
            asyncio.run(play(Outline(folder=Path(folder) / "cluster", channel=given.channel)))
        except ClusterFailed as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
