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
        Example::twin("model.eval()"),
        Example::twin("setTimeout(() => run(), 10)"),
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
        Example::found("new WebSocket('wss://x.test')"),
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

pub(crate) const RULES: &[Rule] = &[
    EVAL,
    HIDDEN_EVAL,
    REMOTE_CODE,
    REMOTE_REQUEST,
    TOKEN_READ,
    CLIPBOARD_READ,
    WEBHOOK,
];
