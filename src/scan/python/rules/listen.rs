//! Code that waits for connections.

use super::{CallRule, CallSite};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_LISTEN];

pub(in crate::scan) const PY_LISTEN: Rule = Rule {
    id: "py-listen",
    category: Category::NetworkListener,
    severity: Severity::Medium,
    intent: None,
    reason: "The code waits for connections.",
    why: "Another port is open, past the checks of ComfyUI's own.",
    fix: "Answer on ComfyUI's port, or listen on 127.0.0.1 and ask who sends.",
    examples: &[
        Example::found("import socket\ns = socket.socket()\ns.bind(('', 1))\n"),
        Example::found(
            "from http.server import HTTPServer\nHTTPServer(('', 1), H).serve_forever()\n",
        ),
        Example::found("from pyngrok import ngrok\nngrok.connect(8188)\n"),
        Example::twin("widget.bind('<Key>', f)\n"),
    ],
};

/// Programs that open a port of this machine to the internet.
const TUNNELS: &[&str] = &[
    "pyngrok.ngrok.connect",
    "ngrok.connect",
    "ngrok.forward",
    "flask_ngrok.run_with_ngrok",
    "pycloudflared.try_cloudflare",
    "flask_cloudflared.run_with_cloudflared",
    "sshtunnel.SSHTunnelForwarder",
];

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: TUNNELS,
        judge: |call| {
            let message = format!("{}() opens this machine to the internet.", call.shown());
            Some(Hit::of(&PY_LISTEN, message).at(Severity::High))
        },
    },
    CallRule {
        names: &[
            "multiprocessing.managers.BaseManager().get_server",
            "multiprocessing.managers.SyncManager().get_server",
            "socket.socket().bind",
            "socket.create_server",
            "http.server.HTTPServer",
            "http.server.ThreadingHTTPServer",
            "BaseHTTPServer.HTTPServer",
            "socketserver.TCPServer",
            "socketserver.ThreadingTCPServer",
            "socketserver.UDPServer",
            "aiohttp.web.run_app",
            "aiohttp.web.TCPSite",
            "uvicorn.run",
            "flask.Flask().run",
            "websockets.serve",
            "asyncio.start_server",
            ".create_server",
            "wsgiref.simple_server.make_server",
            "waitress.serve",
            "gradio.Interface().launch",
            "gradio.Blocks().launch",
            "xmlrpc.server.SimpleXMLRPCServer",
            "tornado.web.Application().listen",
            "multiprocessing.connection.Listener",
            "zmq.Context().socket().bind",
            "grpc.server",
            "websocket_server.WebsocketServer",
            "rpyc.utils.server.ThreadedServer",
            "bottle.run",
            "sanic.Sanic().run",
            "logging.config.listen",
        ],
        judge: judge_listen,
    },
];

fn judge_listen(call: &CallSite<'_>) -> Option<Hit> {
    Some(Hit::of(
        &PY_LISTEN,
        format!("{}() waits for connections.", call.shown()),
    ))
}
