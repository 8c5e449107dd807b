//! The commented comfy.toml of an adopted installation.

use std::fmt::Write as _;

use super::{Adopted, AdoptedModel, AdoptedNode, AdoptedShare, AdoptedSource, GitPin};
use crate::manifest::{IsolationMode, MODELS, ShareAccess, ShareRole, quoted_list};
use crate::text::{escape_text, short_commit};

/// What is not in the installation.
pub(crate) struct ManifestChoices<'a> {
    /// Where it was read from, for people.
    pub origin: &'a str,
    /// `None`: the reader has to write who it is.
    pub primary_user: Option<&'a str>,
    pub isolation: IsolationMode,
    /// The platform of this machine.
    pub platform: &'a str,
    /// Whether comfy sets groups and modes in the adopted shares.
    pub manage_shares: bool,
    pub requirements: &'a [String],
    pub overrides: &'a [String],
}

/// A section of comfy.toml that could not be locked stands there as a comment, with the reason.
#[derive(Debug, Default)]
pub(crate) struct LeftOut<'a> {
    pub nodes: Vec<&'a str>,
    pub models: Vec<&'a str>,
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

/// A key of a table, bare where TOML allows that.
fn key(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_string()
    } else {
        quoted(name)
    }
}

/// Returns comfy.toml.
pub(crate) fn write_manifest(a: &Adopted, choices: &ManifestChoices, left_out: &LeftOut) -> String {
    let mut out = String::new();
    write_head(&mut out, a, choices);
    write_nodes(&mut out, &a.nodes, &left_out.nodes);
    for share in &a.shares {
        write_share(&mut out, share, choices.manage_shares);
    }
    write_models(&mut out, &a.models, &left_out.models);
    out
}

fn write_head(out: &mut String, a: &Adopted, choices: &ManifestChoices) {
    let user = match choices.primary_user {
        Some(name) => format!("primary_user = {}", quoted(name)),
        None => "# primary_user = \"…\"".into(),
    };
    let isolation = match choices.isolation {
        IsolationMode::None => {
            "isolation    = \"none\"             # no second account; nothing is protected"
        }
        IsolationMode::Account => {
            "# isolation  = \"none\"            # no second account, no root; nothing is protected"
        }
    };
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "#:schema ./comfy.schema.json\n# Adopted from {}: {}.\n# comfy.lock has the pins; `comfy plan` \
         shows what would change on this machine; `comfy apply` changes it.\nversion = \
         1\n\n[host]\n{user:<34}# whose files are protected, and who owns the \
         shares\nsandbox_user = \"comfyui_sandbox\"  # the account that ComfyUI runs as\ngroup        = \
         \"comfyshared\"      # the group that both accounts share\n{isolation}\n\n[comfyui]\n",
        a.format,
        escape_text(choices.origin)
    );
    if let Some(core) = &a.core {
        write_pin(out, core, false);
    }
    out.push_str("\n[python]\n");
    if let Some(version) = &a.python {
        let _ = writeln!(out, "version      = {}", quoted(version));
    }
    let _ = writeln!(
        out,
        "platforms    = [{}]  # this machine's alone; add {} for a lock that serves others",
        quoted(choices.platform),
        if choices.platform.starts_with("macos") {
            "\"linux-x86_64\""
        } else {
            "\"macos-arm64\""
        }
    );
    for (name, list, why) in [
        (
            "requirements",
            choices.requirements,
            "beside what ComfyUI and the nodes ask for",
        ),
        (
            "overrides   ",
            choices.overrides,
            "as it was installed; not everybody's wishes fit together",
        ),
    ] {
        if !list.is_empty() {
            let _ = writeln!(out, "{name} = {}  # {why}", quoted_list(list));
        }
    }
}

/// `repo` and `ref`, with what is known of the commit. One that could not be locked has its commit as
/// `ref`: nothing else keeps it.
fn write_pin(out: &mut String, pin: &GitPin, left_out: bool) {
    let note = pin.note.as_ref().map(|n| format!("  # {}", escape_text(n)));
    let _ = writeln!(
        out,
        "repo = {}{}",
        quoted(&pin.repo),
        note.unwrap_or_default()
    );
    let commit = pin.commit.map(|c| c.to_string());
    match (&pin.git_ref, &commit) {
        (_, Some(c)) if left_out => {
            let _ = writeln!(out, "ref  = {}  # what was installed", quoted(c));
        }
        (Some(r), Some(c)) if r == c => {
            let _ = writeln!(
                out,
                "ref  = {}  # on no branch that is known: `comfy update` stays there",
                quoted(r)
            );
        }
        (Some(r), Some(c)) => {
            let _ = writeln!(
                out,
                "ref  = {}  # installed: {}",
                quoted(r),
                short_commit(c)
            );
        }
        (Some(r), None) => {
            let _ = writeln!(out, "ref  = {}", quoted(r));
        }
        (None, Some(c)) => {
            let _ = writeln!(
                out,
                "# installed: {}, of the default branch",
                short_commit(c)
            );
        }
        (None, None) => {}
    }
}

fn write_nodes(out: &mut String, nodes: &[AdoptedNode], left_out: &[&str]) {
    for n in nodes {
        let is_left_out = left_out.contains(&n.name.as_str());
        let mut text = format!("\n[nodes.{}]\n", key(&n.name));
        match &n.source {
            AdoptedSource::Git(pin) => write_pin(&mut text, pin, is_left_out),
            AdoptedSource::Registry { id, version } => {
                let _ = writeln!(text, "registry = {}", quoted(id));
                if let Some(v) = version {
                    let _ = writeln!(text, "version  = {}", quoted(v));
                }
            }
            AdoptedSource::Folder(path) => {
                let _ = writeln!(text, "path = {}", quoted(path));
            }
        }
        if !n.enabled {
            text.push_str("enabled = false  # locked, and not on the machine\n");
        }
        if !n.ignore_requirements.is_empty() {
            let _ = writeln!(
                text,
                "ignore_requirements = {}",
                quoted_list(&n.ignore_requirements)
            );
        }
        push_section(out, &text, is_left_out);
    }
}

fn write_share(out: &mut String, s: &AdoptedShare, manage: bool) {
    let _ = write!(
        out,
        "\n[shares.{}]\npath   = {}\n",
        key(&s.name),
        quoted(&s.path)
    );
    match &s.role {
        ShareRole::Mount(mount) => {
            let _ = writeln!(out, "mount  = {}", quoted(mount));
        }
        ShareRole::Models(kinds) => {
            let each = kinds.iter().map(|(kind, folders)| match &folders[..] {
                [one] => format!("{} = {}", key(kind), quoted(one)),
                all => format!("{} = {}", key(kind), quoted_list(all)),
            });
            let each: Vec<String> = each.collect();
            let _ = writeln!(out, "models = {{ {} }}", each.join(", "));
        }
    }
    let access = match s.access {
        ShareAccess::Read => "read",
        ShareAccess::Write => "write",
        ShareAccess::Add => "add",
    };
    let _ = writeln!(out, "access = \"{access}\"");
    if s.adopted && !manage {
        out.push_str("manage = false  # used as it is: comfy sets no groups and modes in it\n");
    }
}

fn write_models(out: &mut String, models: &[AdoptedModel], left_out: &[&str]) {
    for m in models {
        let mut text = format!("\n[models.{}]\n", quoted(&m.path));
        if m.share != MODELS {
            let _ = writeln!(text, "share  = {}", quoted(&m.share));
        }
        for (name, value) in [("source", &m.source), ("sha256", &m.sha256)] {
            if let Some(v) = value {
                let _ = writeln!(text, "{name} = {}", quoted(v));
            }
        }
        push_section(out, &text, left_out.contains(&m.path.as_str()));
    }
}

fn push_section(out: &mut String, text: &str, left_out: bool) {
    if !left_out {
        return out.push_str(text);
    }
    for line in text.lines() {
        if line.is_empty() {
            out.push_str("\n# Not locked; the list of `comfy init` says why.\n");
        } else {
            let _ = writeln!(out, "# {line}");
        }
    }
}
