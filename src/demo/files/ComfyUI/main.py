"""Starts the miniature ComfyUI: loads the nodes, then serves until it is told to stop."""

import signal
import sys

from comfy.cli_args import args, unknown
from comfyui_version import __version__


def stop(*_):
    raise KeyboardInterrupt


def main():
    import nodes
    import server

    signal.signal(signal.SIGTERM, stop)
    print(f"ComfyUI version: {__version__}\nPython version: {sys.version.split()[0]}", flush=True)
    if unknown:
        print(f"Flags that the miniature does not know: {' '.join(unknown)}", flush=True)
    nodes.init_external_custom_nodes()
    if args.quick_test_for_ci:
        return 0
    try:
        web, address = server.start(args.listen, args.port)
    except OSError as error:
        print(f"Could not listen on {args.listen} port {args.port}: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"Starting server\n\nTo see the GUI go to: {address}", flush=True)
    with web:
        web.serve_forever()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nStopped server", flush=True)
