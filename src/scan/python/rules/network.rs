//! Connections: whom to, whether anybody can listen in, and who may connect here.

use std::sync::LazyLock;

use rustc_hash::FxHashSet as HashSet;

use super::{Argument, CallRule, CallSite, FlowRule, Sink};
use crate::scan::finding::{Category, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[
    PY_CONNECT,
    PY_DOWNLOAD,
    PY_PLAIN_HTTP,
    PY_URL_FROM_DATA,
    PY_TLS_OFF,
];

pub(in crate::scan) const PY_CONNECT: Rule = Rule {
    id: "py-connect",
    category: Category::Ssrf,
    severity: Severity::Low,
    intent: None,
    reason: "The code opens a network connection.",
    why: "What it sends leaves the machine, unless the network is closed to ComfyUI.",
    fix: "Open the host in comfy.toml if it is meant, and leave the rest closed.",
    examples: &[
        Example::found("import requests\nrequests.post('https://x', json={})\n"),
        Example::found("import socket\ns = socket.socket()\ns.connect(('x', 1))\n"),
        Example::twin("import socket\nsocket.gethostname()\n"),
    ],
};

pub(in crate::scan) const PY_DOWNLOAD: Rule = Rule {
    id: "py-download",
    category: Category::InsecureDownload,
    severity: Severity::Low,
    intent: None,
    reason: "A file is downloaded, and no hash says which.",
    why: "Whoever holds the address decides what arrives, today or later.",
    fix: "Declare the file as a model in comfy.toml, with its hash.",
    examples: &[
        Example::found("import urllib.request\nurllib.request.urlretrieve(u, p)\n"),
        Example::found(
            "from huggingface_hub import hf_hub_download\nhf_hub_download('a/b', 'c')\n",
        ),
        Example::twin("import urllib.parse\nurllib.parse.quote('x')\n"),
    ],
};

pub(in crate::scan) const PY_PLAIN_HTTP: Rule = Rule {
    id: "py-plain-http",
    category: Category::InsecureDownload,
    severity: Severity::Medium,
    intent: None,
    reason: "The connection is plain HTTP.",
    why: "Everybody on the way can read and change what arrives.",
    fix: "Use https://.",
    examples: &[
        Example::found("import requests\nrequests.get('http://example.org/x')\n"),
        Example::twin("import requests\nrequests.get('http://127.0.0.1:8188/x')\n"),
        Example::twin("import requests\nrequests.get('https://example.org/x')\n"),
    ],
};

pub(in crate::scan) const PY_URL_FROM_DATA: Rule = Rule {
    id: "py-url-from-data",
    category: Category::Ssrf,
    severity: Severity::Medium,
    intent: None,
    reason: "Data that somebody else decides names whom to connect to.",
    why: "The server reaches what its caller cannot: other ports of this machine, the router, cloud metadata.",
    fix: "Compare the host with a list of those that are meant.",
    examples: &[
        Example::found(
            "import requests\nclass N:\n    RETURN_TYPES = ('IMAGE',)\n    FUNCTION = 'go'\n    @classmethod\n    def INPUT_TYPES(s):\n        return {'required': {'url': ('STRING', {})}}\n    def go(self, url):\n        return requests.get(url)\n",
        ),
        Example::twin(
            "import requests\nclass N:\n    RETURN_TYPES = ('IMAGE',)\n    FUNCTION = 'go'\n    @classmethod\n    def INPUT_TYPES(s):\n        return {'required': {'url': ('STRING', {})}}\n    def go(self, url):\n        if url not in ALLOWED:\n            raise ValueError\n        return requests.get(url)\n",
        ),
    ],
};

pub(in crate::scan) const PY_TLS_OFF: Rule = Rule {
    id: "py-tls-off",
    category: Category::TlsOff,
    severity: Severity::Medium,
    intent: None,
    reason: "Certificates are not checked.",
    why: "Everybody on the way can pretend to be the server, and send what he likes.",
    fix: "Leave verification on; add the authority's certificate if it is a private one.",
    examples: &[
        Example::found("import requests\nrequests.get(u, verify=False)\n"),
        Example::found(
            "import ssl\nssl._create_default_https_context = ssl._create_unverified_context\n",
        ),
        Example::found("import ssl\nssl._create_unverified_context()\n"),
        Example::twin("import requests\nrequests.get(u, verify=True)\n"),
    ],
};

/// Functions that fetch an address.
const GETS: &[&str] = &[
    "requests.get",
    "requests.head",
    "requests.options",
    "requests.Session().get",
    "requests.session().get",
    "requests.Session().head",
    "httpx.get",
    "httpx.stream",
    "httpx.Client().get",
    "httpx.Client().stream",
    "httpx.AsyncClient().get",
    "httpx.AsyncClient().stream",
    "urllib.request.urlopen",
    "urllib.request.build_opener().open",
    "aiohttp.ClientSession().get",
    "aiohttp.request",
    "urllib3.PoolManager().request",
    "urllib3.PoolManager().urlopen",
    "urllib3.request",
    "http.client.HTTPSConnection",
    "http.client.HTTPConnection",
    "pycurl.Curl().setopt",
];

/// Functions that send to an address.
const POSTS: &[&str] = &[
    "requests.post",
    "requests.put",
    "requests.patch",
    "requests.delete",
    "requests.request",
    "requests.Session().post",
    "requests.Session().put",
    "requests.Session().request",
    "requests.session().post",
    "httpx.post",
    "httpx.put",
    "httpx.patch",
    "httpx.request",
    "httpx.Client().post",
    "httpx.AsyncClient().post",
    "aiohttp.ClientSession().post",
    "aiohttp.ClientSession().put",
    "aiohttp.ClientSession().ws_connect",
    "aiohttp.ClientSession().request",
    "websocket.create_connection",
    "websocket.WebSocketApp",
    "websocket.WebSocket().connect",
    "websockets.connect",
    "socket.create_connection",
    "socket.socket().connect",
    "socket.socket().connect_ex",
    "socket.socket().sendto",
    "smtplib.SMTP",
    "smtplib.SMTP_SSL",
    "ftplib.FTP",
    "ftplib.FTP_TLS",
    "telnetlib.Telnet",
    "paramiko.SSHClient().connect",
    "asyncio.open_connection",
    "http.client.HTTPSConnection().request",
    "http.client.HTTPConnection().request",
    "xmlrpc.client.ServerProxy",
    "dns.resolver.resolve",
    "socketio.Client().connect",
    "discord.Webhook.from_url",
    "discord.SyncWebhook.from_url",
    "discord_webhook.DiscordWebhook",
    "dhooks.Webhook",
];

/// Functions that fetch a file.
const DOWNLOADS: &[&str] = &[
    "urllib.request.urlretrieve",
    "wget.download",
    "torch.hub.download_url_to_file",
    "torch.hub.load_state_dict_from_url",
    "torch.utils.model_zoo.load_url",
    "huggingface_hub.hf_hub_download",
    "huggingface_hub.snapshot_download",
    "modelscope.snapshot_download",
    "modelscope.hub.snapshot_download.snapshot_download",
    "gdown.download",
    "gdown.download_folder",
    "torchvision.datasets.utils.download_url",
    "pooch.retrieve",
    "basicsr.utils.download_util.load_file_from_url",
    "yt_dlp.YoutubeDL().download",
    "tensorflow.keras.utils.get_file",
    "pycurl.Curl().perform",
    "facexlib.utils.load_file_from_url",
    "requests.download",
];

/// All of them.
static NETWORK: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| [GETS, POSTS, DOWNLOADS].concat().into_iter().collect());

/// [`DOWNLOADS`], to look a name up.
static DOWNLOADING: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| DOWNLOADS.iter().copied().collect());

/// What a URL is an argument of.
pub(in crate::scan::python) fn is_network(name: &str) -> bool {
    NETWORK.contains(name) || matches!(name, "urllib.request.Request" | "urllib3.Request")
}

pub(in crate::scan::python) fn is_download(name: &str) -> bool {
    DOWNLOADING.contains(name)
}

pub(in crate::scan::python) const CALLS: &[CallRule] = &[
    CallRule {
        names: GETS,
        judge: |call| judge_connection(call, &PY_DOWNLOAD, "fetches from the network"),
    },
    CallRule {
        names: POSTS,
        judge: |call| judge_connection(call, &PY_CONNECT, "connects to the network"),
    },
    CallRule {
        names: DOWNLOADS,
        judge: judge_download,
    },
    CallRule {
        names: &[
            "ssl._create_unverified_context",
            "urllib3.disable_warnings",
            "requests.packages.urllib3.disable_warnings",
        ],
        judge: |call| {
            let hit = Hit::of(
                &PY_TLS_OFF,
                format!("{}(): certificates are not checked.", call.shown()),
            );
            Some(if call.name.ends_with("disable_warnings") {
                hit.at(Severity::Low)
            } else {
                hit
            })
        },
    },
];

fn judge_download(call: &CallSite<'_>) -> Option<Hit> {
    let hashed = call.keyword("hash_prefix").is_some_and(|v| !v.is_false())
        || call.keyword("known_hash").is_some_and(|v| !v.is_false());
    if hashed {
        return None;
    }
    plain_http(call).or_else(|| {
        Some(Hit::of(
            &PY_DOWNLOAD,
            format!(
                "{}() downloads a file, and no hash says which.",
                call.shown()
            ),
        ))
    })
}

fn judge_connection(call: &CallSite<'_>, rule: &'static Rule, what: &str) -> Option<Hit> {
    plain_http(call).or_else(|| Some(Hit::of(rule, format!("{}() {what}.", call.shown()))))
}

fn plain_http(call: &CallSite<'_>) -> Option<Hit> {
    let text = call
        .all()
        .find_map(|v| v.as_text().filter(|t| t.starts_with("http://")))?;
    let host = text["http://".len()..]
        .split(['/', ':', '?'])
        .next()
        .unwrap_or("");
    let near = [
        "localhost",
        "127.",
        "0.0.0.0",
        "192.168.",
        "10.",
        "[::1]",
        "host.docker.internal",
    ]
    .iter()
    .any(|h| host.starts_with(h))
        || host.contains(super::super::values::UNKNOWN_PART)
        || host.is_empty()
        || !host.contains('.');
    (!near).then(|| {
        Hit::of(
            &PY_PLAIN_HTTP,
            format!("{}() connects to {host} over plain HTTP.", call.shown()),
        )
    })
}

/// What any call with `verify=False` and the like shows.
pub(in crate::scan::python) fn turns_tls_off(call: &CallSite<'_>) -> Option<Hit> {
    if call.named.is_empty() {
        return None;
    }
    let off = |k: &str| {
        call.keyword(k)
            .is_some_and(|v| matches!(v.what, super::super::values::What::Constant("False")))
    };
    let network = is_network(call.name)
        || ["requests", "httpx", "aiohttp", "urllib3"]
            .iter()
            .any(|l| call.name.starts_with(l))
        || call.name.starts_with('?');
    let found = network
        && (off("verify") || off("verify_ssl") || call.name.starts_with("aiohttp") && off("ssl"))
        || call
            .keyword("cert_reqs")
            .and_then(|v| v.as_text())
            .is_some_and(|t| &*t == "CERT_NONE");
    found.then(|| {
        Hit::of(
            &PY_TLS_OFF,
            format!("{}() does not check certificates.", call.shown()),
        )
    })
}

pub(in crate::scan::python) const FLOWS: &[FlowRule] = &[
    FlowRule {
        names: GETS,
        arguments: &[Argument::At(0, "url")],
        sink: Sink::Url,
        rule: &PY_URL_FROM_DATA,
    },
    FlowRule {
        names: POSTS,
        arguments: &[Argument::At(0, "url")],
        sink: Sink::Url,
        rule: &PY_URL_FROM_DATA,
    },
    FlowRule {
        names: &[
            "urllib.request.urlretrieve",
            "wget.download",
            "torch.hub.download_url_to_file",
            "torch.hub.load_state_dict_from_url",
            "gdown.download",
            "urllib.request.Request",
            "webbrowser.open",
            "webbrowser.open_new",
            "webbrowser.open_new_tab",
        ],
        arguments: &[Argument::At(0, "url")],
        sink: Sink::Url,
        rule: &PY_URL_FROM_DATA,
    },
    FlowRule {
        names: GETS,
        arguments: &[Argument::Any],
        sink: Sink::Send,
        rule: &super::credentials::PY_SECRET_SENT,
    },
    FlowRule {
        names: POSTS,
        arguments: &[Argument::Any],
        sink: Sink::Send,
        rule: &super::credentials::PY_SECRET_SENT,
    },
    FlowRule {
        names: &[
            "urllib.request.Request",
            "socket.socket().send",
            "socket.socket().sendall",
            "socket.socket().sendto",
            "socket.create_connection().send",
            "socket.create_connection().sendall",
            "smtplib.SMTP().sendmail",
            "smtplib.SMTP_SSL().sendmail",
            "smtplib.SMTP().send_message",
            "ftplib.FTP().storbinary",
            "websocket.create_connection().send",
            "http.client.HTTPSConnection().request",
            "http.client.HTTPConnection().request",
            "discord_webhook.DiscordWebhook",
            "discord_webhook.DiscordWebhook().add_file",
            "socket.gethostbyname",
            "socket.getaddrinfo",
            "socket.gethostbyname_ex",
            "dns.resolver.resolve",
            "dns.resolver.query",
            ".resolve",
            "dns.resolver.Resolver().resolve",
            "dns.resolver.Resolver().query",
            "aiodns.DNSResolver().query",
            "boto3.client().put_object",
            "boto3.client().upload_file",
        ],
        arguments: &[Argument::Any],
        sink: Sink::Send,
        rule: &super::credentials::PY_SECRET_SENT,
    },
];
