//! Writes comfy.lock: the same lock always gives the same bytes.

use std::fmt::Write as _;

use super::{HEADER, OLDEST_VERSION, VERSION};
use crate::lock::python::{LockedPython, LockedWheel, PartRequirements};
use crate::lock::reviews::Acceptances;
use crate::lock::{Lock, ModelPin, RepositoryPin};
use crate::manifest::{LockPlatform, WheelSource};

pub(crate) fn render_lock(lock: &Lock) -> String {
    let mut out = format!("{HEADER}version = {}\n", format_version(lock));
    render_pin(&mut out, "comfyui", &lock.comfyui, lock.asks.get("comfyui"));
    for (name, pin) in &lock.nodes {
        let key = format!("nodes.{}", table_key(name));
        render_pin(&mut out, &key, pin, lock.asks.get(&format!("node.{name}")));
    }
    if let Some(p) = &lock.python {
        render_python(&mut out, p);
    }
    for (path, m) in &lock.models {
        render_model(&mut out, path, m);
    }
    render_acceptances(&mut out, &lock.acceptances);
    out
}

fn render_acceptances(out: &mut String, acceptances: &Acceptances) {
    for (name, r) in &acceptances.reviews {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\n[reviews.{}]\nkind = \"{}\"\ncommit = \"{}\"\ntree = \"{}\"\ncontent = \"{}\"\nby = {}\nat = {}\n",
            table_key(name),
            r.kind.as_word(),
            r.commit,
            r.tree,
            r.content,
            quoted_string(&r.by),
            quoted_string(&r.at)
        );
        if !r.capabilities.is_empty() {
            let pairs = r.capabilities.iter().map(|(k, n)| format!("{k} = {n}"));
            let pairs: Vec<String> = pairs.collect();
            let _ = writeln!(out, "capabilities = {{ {} }}", pairs.join(", "));
        }
        write_list(out, "critical", r.critical.iter().map(|s| quoted_string(s)));
    }
    for a in &acceptances.accepted {
        let _ = writeln!(out, "\n[[accepted]]");
        for (key, value) in [
            ("node", &a.entry.node),
            ("rule", &a.entry.rule),
            ("path", &a.entry.path),
            ("reason", &a.entry.reason),
        ] {
            let _ = writeln!(out, "{key} = {}", quoted_string(value));
        }
        write_list(
            out,
            "findings",
            a.fingerprints.iter().map(|s| quoted_string(s)),
        );
    }
}

/// A node's name as a key: only a dot needs quotes.
fn table_key(name: &str) -> String {
    if name.contains('.') {
        format!("\"{name}\"")
    } else {
        name.to_string()
    }
}

/// The oldest format that can say it, so that older versions of comfy read what they can.
fn format_version(lock: &Lock) -> i64 {
    let is_newer = |pin: &RepositoryPin| !pin.source().is_repository();
    let packages = lock.python.iter().flat_map(|p| &p.packages);
    let has_publishers = packages.into_iter().any(|p| p.publisher.is_some());
    let has_blake3 = lock.models.values().any(|m| m.blake3.is_some());
    if lock.nodes.values().any(is_newer)
        || !lock.acceptances.is_empty()
        || has_publishers
        || has_blake3
    {
        VERSION
    } else {
        OLDEST_VERSION
    }
}

pub(super) fn render_model(out: &mut String, path: &str, m: &ModelPin) {
    let _ = writeln!(out, "\n[models.{}]", quoted_key(path));
    for (key, value) in [
        ("source", &m.source),
        ("revision", &m.revision),
        ("etag", &m.etag),
    ] {
        if let Some(v) = value {
            let _ = writeln!(out, "{key} = {}", quoted_string(v));
        }
    }
    let _ = writeln!(out, "size = {}\nsha256 = \"{}\"", m.size, m.sha256);
    if let Some(blake3) = &m.blake3 {
        let _ = writeln!(out, "blake3 = \"{blake3}\"");
    }
}

/// A key in basic quotes: a path has no control characters, and may have anything else.
pub(super) fn quoted_key(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(super) fn quoted_string(s: &str) -> String {
    toml::Value::String(s.to_string()).to_string()
}

/// A list with a line for each item, so that merges stay readable; nothing where it is empty.
pub(super) fn write_list(out: &mut String, key: &str, items: impl IntoIterator<Item = String>) {
    let mut items = items.into_iter().peekable();
    if items.peek().is_none() {
        return;
    }
    let _ = writeln!(out, "{key} = [");
    for item in items {
        let _ = writeln!(out, "    {item},");
    }
    out.push_str("]\n");
}

pub(super) fn inline_list(items: &[String]) -> String {
    format!(
        "[{}]",
        items
            .iter()
            .map(|s| quoted_string(s))
            .collect::<Vec<_>>()
            .join(", ")
    )
}

fn platform_words(platforms: &[LockPlatform]) -> Vec<String> {
    platforms.iter().map(|p| p.word().to_string()).collect()
}

/// A list on one line; nothing where it is empty.
fn write_words(out: &mut String, key: &str, words: &[String]) {
    if !words.is_empty() {
        let _ = writeln!(out, "{key} = {}", inline_list(words));
    }
}

pub(super) fn render_python(out: &mut String, p: &LockedPython) {
    let _ = write!(out, "\n[python]\nversion = {}\n", quoted_string(&p.version));
    if let Some(m) = &p.managed {
        let _ = writeln!(out, "managed = {}", quoted_string(m));
    }
    write_list(
        out,
        "requirements",
        p.requirements.iter().map(|s| quoted_string(s)),
    );
    write_list(
        out,
        "overrides",
        p.overrides.iter().map(|s| quoted_string(s)),
    );
    // An older comfy knows no other platforms.
    if p.platforms != LockPlatform::defaults() {
        write_words(out, "platforms", &platform_words(&p.platforms));
    }
    let wheels: Vec<String> = p.wheels.iter().map(WheelSource::text).collect();
    write_list(out, "wheels", wheels.iter().map(|s| quoted_string(s)));
    write_list(
        out,
        "allow_pth",
        p.allow_pth.iter().map(|s| quoted_string(s)),
    );
    for x in &p.indexes {
        let _ = write!(
            out,
            "\n[[python.indexes]]\nname = {}\nurl = {}\npackages = {}\n",
            quoted_string(&x.name),
            quoted_string(&x.url),
            inline_list(&x.packages)
        );
        write_words(out, "platforms", &platform_words(&x.platforms));
        let words: Vec<String> = x.accelerators.iter().map(|a| a.word().into()).collect();
        write_words(out, "accelerators", &words);
    }
    for k in &p.packages {
        let _ = write!(
            out,
            "\n[[python.packages]]\nname = {}\nversion = {}\n",
            quoted_string(&k.name),
            quoted_string(&k.version)
        );
        if let Some(index) = &k.index {
            let _ = writeln!(out, "index = {}", quoted_string(index));
        }
        write_words(out, "platforms", &platform_words(&k.platforms));
        write_words(out, "accelerators", &k.accelerators);
        if let Some(marker) = &k.marker {
            let _ = writeln!(out, "marker = {}", quoted_string(marker));
        }
        let _ = writeln!(out, "by = {}", inline_list(&k.by));
        if let Some(who) = &k.publisher {
            let _ = writeln!(out, "publisher = {}", quoted_string(who));
        }
        let size = |w: &LockedWheel| w.size.map_or(String::new(), |n| format!(", size = {n}"));
        write_list(
            out,
            "wheels",
            k.wheels.iter().map(|w| {
                format!(
                    "{{ file = {}, sha256 = \"{}\"{} }}",
                    quoted_string(&w.file),
                    w.sha256,
                    size(w)
                )
            }),
        );
    }
}

pub(super) fn render_pin(
    out: &mut String,
    key: &str,
    pin: &RepositoryPin,
    asks: Option<&PartRequirements>,
) {
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "\n[{key}]\nrepo = {}\nref = {}\ncommit = \"{}\"\ntree = \"{}\"\n",
        quoted_string(&pin.repo),
        quoted_string(&pin.git_ref),
        pin.commit,
        pin.tree
    );
    if let Some(a) = &pin.archive {
        for (key, value) in [
            ("registry_version", &a.version),
            ("url", &a.url),
            ("sha256", &a.sha256),
            ("status", &a.status),
        ] {
            let _ = writeln!(out, "{key} = {}", quoted_string(value));
        }
    }
    if let Some(a) = asks {
        write_list(
            out,
            "requirements",
            a.lines.iter().map(|l| quoted_string(&l.to_string())),
        );
        write_list(
            out,
            "ignore_requirements",
            a.ignored.iter().map(|l| quoted_string(l)),
        );
        if let Some(files) = &a.files {
            let _ = writeln!(out, "requirements_files = {}", inline_list(files));
        }
    }
    write_list(
        out,
        "excluded",
        pin.excluded.iter().map(|x| {
            format!(
                "{{ path = {}, mode = \"{}\", id = \"{}\" }}",
                quoted_string(&x.path),
                x.mode.octal(),
                x.oid
            )
        }),
    );
    for s in &pin.submodules {
        let _ = write!(
            out,
            "\n[[{key}.submodules]]\npath = {}\nrepo = {}\ncommit = \"{}\"\ntree = \"{}\"\n",
            quoted_string(&s.path),
            quoted_string(&s.repo),
            s.commit,
            s.tree
        );
    }
}
