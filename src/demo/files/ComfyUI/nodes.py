"""The nodes that are built in, and the loader of those in custom_nodes/."""

import importlib.util
import os
import sys
import time
import traceback

import folder_paths
from comfy.cli_args import args


class ShowText:
    """Ends a graph by showing a text."""

    CATEGORY = "demo"
    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def show(self, text):
        return {"ui": {"text": [text]}}


NODE_CLASS_MAPPINGS = {"ShowText": ShowText}
NODE_DISPLAY_NAME_MAPPINGS = {"ShowText": "Show text"}


def load_custom_node(path):
    """Imports one file or package; whether that went well."""
    name = os.path.splitext(os.path.basename(path))[0] if os.path.isfile(path) else os.path.basename(path)
    file = path if os.path.isfile(path) else os.path.join(path, "__init__.py")
    # ComfyUI names the module by its path too: two nodes never meet in sys.modules.
    module_name = path.replace(".", "_x_")
    try:
        spec = importlib.util.spec_from_file_location(module_name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        mappings = getattr(module, "NODE_CLASS_MAPPINGS", None)
        if mappings is None:
            print(f"Skip {path} module for custom nodes due to the lack of NODE_CLASS_MAPPINGS.", flush=True)
            return False
        for key, node in mappings.items():
            if key not in NODE_CLASS_MAPPINGS:
                node.RELATIVE_PYTHON_MODULE = f"custom_nodes.{name}"
                NODE_CLASS_MAPPINGS[key] = node
        NODE_DISPLAY_NAME_MAPPINGS.update(getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", {}))
        return True
    except Exception as error:
        # One node that fails must not keep the others from loading.
        sys.modules.pop(module_name, None)
        print(traceback.format_exc(), flush=True)
        print(f"Cannot import {path} module for custom nodes: {error}", flush=True)
        return False


def init_external_custom_nodes():
    """Loads all of custom_nodes/ in order of name."""
    times = []
    for top in folder_paths.get_folder_paths("custom_nodes"):
        for entry in sorted(os.listdir(top)):
            path = os.path.realpath(os.path.join(top, entry))
            is_file = os.path.isfile(path)
            if entry == "__pycache__" or entry.startswith(".") or entry.endswith(".disabled") or (is_file and not entry.endswith(".py")):
                continue
            if args.disable_all_custom_nodes and entry not in args.whitelist_custom_nodes:
                continue
            before = time.perf_counter()
            loaded = load_custom_node(path)
            times.append((time.perf_counter() - before, path, loaded))
    print("\nImport times for custom nodes:", flush=True)
    for seconds, path, loaded in sorted(times):
        mark = "" if loaded else " (IMPORT FAILED)"
        print(f"{seconds:6.1f} seconds{mark}: {path}", flush=True)
