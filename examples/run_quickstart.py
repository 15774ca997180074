"""`make run`: demo backends and Portway on examples/quickstart; prints what to try."""

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(os.path.relpath(Path(__file__).parent))  # so that messages name files as one would type them
BACKENDS = ("cart=9101", "pay=9102", "cart-next=9103")
TRY = """
Portway starts on examples/quickstart. When it says "listening on ...", try in another terminal:

  curl http://shop.localhost:8080/                     an Ingress: goes to cart
  curl http://shop.localhost:8080/pay                  ... to pay
  curl -k https://shop.localhost:8443/                 the same over TLS, with the default certificate
  curl http://old.localhost:8080/shop/items            rewrite-target: cart sees /items
  curl http://api.localhost:8081/cart                  an HTTPRoute: one of ten answers comes from cart-next
  curl -X POST http://api.localhost:8081/pay           ... with a header added

  .venv/bin/portway explain GET http://shop.localhost:8080/pay       why it goes there
  .venv/bin/portway status                                           what is served, what is refused
  curl http://127.0.0.1:9902/metrics                                 what it counts

Edit a file in examples/quickstart and ask again: the change is live at once. Ctrl-C ends it all.
"""


def main() -> int:
    # The settings are the command line's, so that this is what a user would type.
    portway = [sys.executable, "-m", "portway", "run", "-f", str(HERE / "quickstart")]
    ports = ["--bind-address", "127.0.0.1", "--http-port", "8080", "--https-port", "8443"]
    # In a session of their own: they end after Portway, which drains what they answer.
    backends = subprocess.Popen([sys.executable, str(HERE / "backends.py"), *BACKENDS], start_new_session=True)
    print(TRY, flush=True)
    try:
        process = subprocess.Popen([*portway, *ports, *sys.argv[1:]])
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return wait(process)
    finally:
        backends.terminate()
        backends.wait()


def wait(process: "subprocess.Popen[bytes]") -> int:
    """Until it has ended. Ctrl-C reaches it as well as us, and it drains first."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
