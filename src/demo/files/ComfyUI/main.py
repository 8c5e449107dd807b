"""Starts the miniature ComfyUI: loads the nodes, then serves until it is told to stop."""

import os
import signal
import sys

from comfy.cli_args import args, unknown
from comfyui_version import __version__


def stop(*_):
    raise KeyboardInterrupt


def main():
    import nodes
    import server
    from utils import extra_config

    signal.signal(signal.SIGTERM, stop)
    beside = os.path.join(os.path.dirname(os.path.realpath(__file__)), "extra_model_paths.yaml")
    for path in [beside] * os.path.isfile(beside) + sum(args.extra_model_paths_config or [], []):
        extra_config.load_extra_path_config(path)
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
