"""The web server: a page for people, and the addresses of ComfyUI that programs ask."""

import json
import os
import platform
import socket
import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import folder_paths
import nodes
from comfyui_version import __version__

PAGE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "web", "index.html")


def node_info(name):
    node = nodes.NODE_CLASS_MAPPINGS[name]
    inputs = node.INPUT_TYPES()
    outputs = list(node.RETURN_TYPES)
    return {
        "input": inputs,
        "input_order": {kind: list(values) for kind, values in inputs.items()},
        "output": outputs,
        "output_is_list": [False] * len(outputs),
        "output_name": list(getattr(node, "RETURN_NAMES", outputs)),
        "name": name,
        "display_name": nodes.NODE_DISPLAY_NAME_MAPPINGS.get(name, name),
        "description": getattr(node, "DESCRIPTION", ""),
        "python_module": getattr(node, "RELATIVE_PYTHON_MODULE", "nodes"),
        "category": getattr(node, "CATEGORY", "sd"),
        "output_node": bool(getattr(node, "OUTPUT_NODE", False)),
    }


def system_stats():
    return {
        "system": {
            "os": platform.system().lower(),
            "comfyui_version": __version__,
            "python_version": sys.version,
            "pytorch_version": "none",
            "embedded_python": False,
            "argv": sys.argv,
        },
        "devices": [{"name": "cpu", "type": "cpu", "index": None, "vram_total": 0, "vram_free": 0}],
    }


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?", 1)[0]
        path = path[4:] if path.startswith("/api/") else path
        if path in ("/", "/index.html"):
            return self.page()
        if path == "/system_stats":
            return self.json(system_stats())
        if path == "/object_info":
            return self.json({name: node_info(name) for name in nodes.NODE_CLASS_MAPPINGS})
        if path.startswith("/object_info/"):
            name = path[len("/object_info/"):]
            return self.json({name: node_info(name)} if name in nodes.NODE_CLASS_MAPPINGS else {})
        if path == "/models":
            return self.json([name for name in folder_paths.folder_names_and_paths if name != "custom_nodes"])
        if path.startswith("/models/") and path[8:] in folder_paths.folder_names_and_paths:
            return self.json(folder_paths.get_filename_list(path[8:]))
        if path == "/queue":
            return self.json({"queue_running": [], "queue_pending": []})
        self.send_error(404)

    def page(self):
        with open(PAGE, encoding="utf-8") as file:
            text = file.read()
        items = "".join(f"<li>{name}</li>" for name in sorted(nodes.NODE_CLASS_MAPPINGS))
        text = text.replace("{version}", __version__).replace("{nodes}", items)
        self.reply(text.encode(), "text/html; charset=utf-8")

    def json(self, value):
        self.reply(json.dumps(value).encode(), "application/json; charset=utf-8")

    def reply(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """One line a request would bury what matters in the log."""


def start(listen, port):
    """Binds the first address of `listen`; the server and its address for people."""
    host = listen.split(",")[0].strip() or "127.0.0.1"

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

        def server_bind(self):
            # HTTPServer's own asks the name server for its name, which takes seconds where there is no network.
            socketserver.TCPServer.server_bind(self)
            self.server_name, self.server_port = host, self.server_address[1]

    server = Server((host, port), Handler)
    shown = f"[{host}]" if ":" in host else host
    return server, f"http://{shown}:{server.server_address[1]}"
