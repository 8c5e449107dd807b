"""The flags of ComfyUI that matter here. Flags that are not known are taken and named, never refused."""

import argparse


def build():
    parser = argparse.ArgumentParser(description="A miniature ComfyUI.")
    parser.add_argument("--listen", default="127.0.0.1", metavar="IP", nargs="?", const="0.0.0.0,::")
    parser.add_argument("--port", type=int, default=8188, help="0 takes a free one")
    parser.add_argument("--base-directory", default=None)
    parser.add_argument("--input-directory", default=None)
    parser.add_argument("--output-directory", default=None)
    parser.add_argument("--temp-directory", default=None)
    parser.add_argument("--user-directory", default=None)
    parser.add_argument("--extra-model-paths-config", nargs="+", action="append", metavar="PATH")
    parser.add_argument("--database-url", default=None)
    parser.add_argument("--disable-all-custom-nodes", action="store_true")
    parser.add_argument("--whitelist-custom-nodes", nargs="+", default=[])
    parser.add_argument("--disable-auto-launch", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--quick-test-for-ci", action="store_true", help="load everything, then end")
    return parser


args, unknown = build().parse_known_args()
