"""Turns a text round; the work is in a module of its own, as real nodes have it."""

from .invert import DemoInvert

NODE_CLASS_MAPPINGS = {"DemoInvert": DemoInvert}
NODE_DISPLAY_NAME_MAPPINGS = {"DemoInvert": "Invert (demo)"}
