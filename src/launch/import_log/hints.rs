//! Hints for what ComfyUI's output reports: a refused write, a missing module, pip, a refused host.
//! Nodes can print anything, so a hint says that ComfyUI reports it, and repeats only what has the
//! form of a path, a name or a host.

use std::os::unix::fs::MetadataExt;

use super::module_packages::{ModuleOrigin, origin_of};
use super::{ImportLog, LoggedShare};
use crate::manifest::{EgressPolicy, ShareAccess};

impl LoggedShare {
    /// Returns the entry on the way to `inner` that the share's group cannot use, as the owner sees
    /// it: the reason of a refused access, whatever `access` says.
    fn closed_entry(&self, inner: &str) -> Option<String> {
        let root = std::path::Path::new(&self.path);
        let parts: Vec<&str> = inner.split('/').filter(|p| !p.is_empty()).collect();
        if parts.contains(&"..") {
            return None;
        }
        let group = std::fs::metadata(root).ok()?.gid();
        for n in 1..=parts.len() {
            let path = parts[..n].join("/");
            let entry = root.join(&path).symlink_metadata().ok()?;
            let (folder, last) = (entry.is_dir(), n == parts.len());
            let uses = match self.access {
                _ if folder && !last => 0o010,
                ShareAccess::Read if folder => 0o050,
                ShareAccess::Write | ShareAccess::Add if folder => 0o070,
                ShareAccess::Write => 0o060,
                ShareAccess::Read | ShareAccess::Add => 0o040,
            };
            let others = entry.mode() & (uses >> 3) == uses >> 3;
            let open = entry.mode() & uses == uses && entry.gid() == group;
            if entry.is_symlink() || (!folder && !entry.is_file()) {
                return None;
            }
            if !open && !others {
                return Some(path);
            }
        }
        None
    }
}

/// The path without `..`: comfy.toml takes none.
fn without_parents(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|p| !matches!(*p, "" | ".")) {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl ImportLog {
    /// Returns how to allow a write that failed (errno 13 and 30) in a sealed folder or a share, or
    /// why it cannot be allowed (errno 40).
    pub(super) fn denied_write(&self, line: &str, of: Option<&str>) -> Option<String> {
        let rest = ["[Errno 13]", "[Errno 30]", "[Errno 40]"]
            .iter()
            .find_map(|number| line.split_once(number))?
            .1;
        let path = quoted_part(rest).filter(|p| p.starts_with('/') && is_plain(p))?;
        let path = &without_parents(path);
        let who = of.map_or("a node".into(), |n| format!("node.{n}"));
        if let Some((node, inner)) = path
            .rsplit_once("/ComfyUI/custom_nodes/")
            .and_then(|(_, p)| p.split_once('/'))
        {
            let node = self.nodes.get(node)?;
            return self.write_in_node(line, node, inner);
        }
        if line.contains("[Errno 40]") {
            return None;
        }
        if let Some((share, inner)) = self.share_at(path) {
            return share
                .closed_entry(inner)
                .map(|closed| mode_hint(share, &closed))
                .or_else(|| share_hint(&who, share, inner));
        }
        let (_, inner) = path.rsplit_once("/ComfyUI/")?;
        // The only folder of ComfyUI's own into which nodes put files.
        if inner == "web" || inner.starts_with("web/") {
            let line = "[comfyui] writable = [\"web/extensions\"]";
            return Some(write_hint(&who, "web/extensions", line));
        }
        // A folder for models, without a share there.
        (inner.starts_with("models/") && inner.len() > 7).then(|| {
            format!(
                "ComfyUI reports that {who} tried to write {inner}, where no share is mounted: if \
                 you agree, add to comfy.toml a share with `mount = \"models\"` and `access = \
                 \"add\"`, then `comfy apply`"
            )
        })
    }

    /// A write in a node's own folder.
    fn write_in_node(&self, line: &str, node: &str, inner: &str) -> Option<String> {
        if inner.is_empty() {
            return None;
        }
        if !line.contains("[Errno 40]") {
            let section = format!("[nodes.{node}] writable = [\"{inner}\"]");
            return Some(write_hint(&format!("node.{node}"), inner, &section));
        }
        // What is writable is a link into the node's own state, and it opens the file without
        // following links (O_NOFOLLOW): inside of a writable folder there is no link.
        Some(match inner.rsplit_once('/') {
            Some((folder, _)) => format!(
                "ComfyUI reports that node.{node} does not open {inner} through a link, and a \
                 writable file is one: if you agree, make its folder writable, in comfy.toml, then \
                 `comfy apply`: [nodes.{node}] writable = [\"{folder}\"]"
            ),
            None => format!(
                "ComfyUI reports that node.{node} does not open {inner} through a link, and a \
                 writable file is one. If it is a lock of the package filelock, an older version \
                 opens it; in comfy.toml, then `comfy lock` and `comfy apply`: [python] \
                 requirements = [\"filelock<3.20\"]"
            ),
        })
    }

    /// Returns the share in which a path is, by its mount in ComfyUI's folder or by its own path,
    /// and the rest.
    fn share_at<'a, 'b>(&'a self, path: &'b str) -> Option<(&'a LoggedShare, &'b str)> {
        let inside = path.rsplit_once("/ComfyUI/").map(|(_, inner)| inner);
        let below = |prefix: &str, path: &'b str| {
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
        };
        let found = self.context.shares.iter().filter_map(|s| {
            let by_mount = s
                .mount
                .as_deref()
                .zip(inside)
                .and_then(|(m, p)| below(m, p));
            let rest = by_mount.or_else(|| below(&s.path, path))?;
            Some((s, rest))
        });
        found.min_by_key(|(_, rest)| rest.len())
    }

    /// Returns a hint for pip, which a sealed environment does not have.
    pub(super) fn denied_pip(&self, line: &str, of: Option<&str>) -> Option<String> {
        let who = of.map_or("a node".into(), |n| format!("node.{n}"));
        let packages = pip_packages(line);
        if packages.is_none() && !line.ends_with("No module named pip") {
            return None;
        }
        let packages = packages.unwrap_or_default();
        let what = if packages.is_empty() {
            String::new()
        } else {
            format!(" to install {}", packages.join(", "))
        };
        Some(format!(
            "ComfyUI reports that {who} ran pip{what}. The environment is sealed, so pip cannot change \
             it: if you trust what it wants to install, add it to `requirements` in [python] of \
             comfy.toml, then `comfy lock` and `comfy apply`"
        ))
    }

    /// Returns the line that allows a host which ComfyUI could not reach.
    pub(super) fn denied_host(&self, line: &str) -> Option<String> {
        let policy = self.context.egress.as_ref()?;
        let by_proxy = line
            .strip_prefix("comfy: ComfyUI tried to reach ")
            .and_then(|rest| rest.split_once(", which network.egress"));
        let failed = [
            "Temporary failure in name resolution",
            "Name or service not known",
            "nodename nor servname provided",
            "Network is unreachable",
            "Tunnel connection failed",
            "[Errno 13] Permission denied",
            "Failed to resolve",
            "Connection refused",
            "NameResolutionError",
        ];
        let host = match by_proxy {
            Some((host, _)) => Some(host.to_string()),
            None if failed.iter().any(|f| line.contains(f)) => pool_host(line),
            None => return None,
        };
        let Some(host) = host else {
            // A name that was looked up and not printed.
            return (failed[..3].iter().any(|f| line.contains(f))
                && *policy != EgressPolicy::Allow)
                .then(|| {
                    "ComfyUI reports that it could not look up a host. It reaches those alone that \
                     comfy.toml allows: [network] egress = [\"HOST:443\"], then `comfy apply`"
                        .into()
                });
        };
        let (name, port) = host.rsplit_once(':')?;
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':'));
        if !plain || name.is_empty() || policy.allows(name, port.parse().ok()?) {
            return None;
        }
        Some(format!(
            "ComfyUI reports that it could not reach {host}, which network.egress does not allow: if \
             you agree, write in comfy.toml, then `comfy apply`: {}",
            policy.line_that_allows(&host)
        ))
    }

    /// Returns a hint for the module for which a node failed to import. It names a package only if
    /// comfy itself knows that the module comes from it.
    pub(super) fn missing_module(&self, line: &str, of: Option<&str>) -> Option<String> {
        let node = of?;
        let (_, rest) = line.split_once("No module named '")?;
        let (whole, _) = rest.split_once('\'')?;
        let (module, part) = whole.split_once('.').unwrap_or((whole, ""));
        if !is_module(module) || !part.split('.').all(|p| p.is_empty() || is_module(p)) {
            return None;
        }
        let origin = origin_of(module);
        // A missing part of an existing module is not a missing package.
        if !part.is_empty() {
            return Some(format!(
                "ComfyUI reports that the module {whole} is missing for node.{node}: if it is one of \
                 the node's own files, its install.py may fetch it, which comfy does not run: choose \
                 another `ref` in [nodes.{node}]. If it is a part of a package, choose another version \
                 of that with [python] overrides"
            ));
        }
        if let Some(line) = self.left_out(node, module, origin) {
            return Some(format!(
                "ComfyUI reports that node.{node} needs the module {module}, which comfy.toml leaves \
                 out: [nodes.{node}] ignore_requirements = [{}]. Without its package this node does \
                 not load",
                toml::Value::from(line)
            ));
        }
        let help = match origin {
            Some(ModuleOrigin::Package(package)) => format!(
                "it is part of the package `{package}`; to install it, add to comfy.toml, then \
                 `comfy lock` and `comfy apply`: [python] requirements = [\"{package}\"]"
            ),
            Some(ModuleOrigin::Elsewhere(from)) => format!(
                "the package index has no wheel of it; it comes from {from}. comfy installs what an \
                 index serves: if you trust it and have an index with a wheel for this Python, name \
                 that in [python] indexes of comfy.toml"
            ),
            None => "find out which package it comes from, and whether you trust that package, \
                     before you add it to `requirements` in [python] of comfy.toml"
                .into(),
        };
        Some(format!(
            "ComfyUI reports that the module {module} is missing for node.{node}: {help}"
        ))
    }

    /// Returns a hint for a part of ComfyUI, or of a package, that a node expects and the installed
    /// version lacks.
    pub(super) fn missing_name(&self, why: &str, of: Option<&str>) -> Option<String> {
        let node = of?;
        let quoted = |before: &str| {
            let (_, rest) = why.split_once(before)?;
            Some(rest.split_once('\'')?.0)
        };
        let what = match quoted("No module named '") {
            Some(module) => module.to_string(),
            None => {
                let name = quoted("cannot import name '").or(quoted("has no attribute '"))?;
                let module = quoted("' from '").or(quoted("module '"))?;
                format!("{module}.{name}")
            }
        };
        let (first, _) = what.split_once('.').unwrap_or((&what, ""));
        if !what.split('.').all(is_module) {
            return None;
        }
        if OF_COMFYUI.contains(&first) {
            return Some(format!(
                "ComfyUI reports that node.{node} needs {what}, which this ComfyUI does not have: the \
                 node was made for another version. In comfy.toml choose a newer `ref` in [comfyui], \
                 or a `ref` in [nodes.{node}] that fits, then `comfy lock` and `comfy apply`"
            ));
        }
        let origin = origin_of(first).filter(|_| what.contains('.'))?;
        let ModuleOrigin::Package(package) = origin else {
            return None;
        };
        let package = requirement_name(package);
        Some(format!(
            "ComfyUI reports that node.{node} needs {what}, which the installed version of the package \
             `{package}` does not have. Find out which version the node was made for, and choose it \
             in comfy.toml, then `comfy lock` and `comfy apply`: [python] overrides = \
             [\"{package}==VERSION\"]"
        ))
    }

    /// Returns the line of `ignore_requirements` that leaves the package of a module out.
    fn left_out(&self, node: &str, module: &str, origin: Option<ModuleOrigin>) -> Option<&str> {
        let plain = |name: &str| {
            let name = name.to_ascii_lowercase();
            name.replace(['-', '.'], "_")
        };
        let package = match origin {
            Some(ModuleOrigin::Package(p)) => Some(plain(p)),
            _ => None,
        };
        let lines = self.context.left_out.get(node)?;
        lines.iter().map(String::as_str).find(|line| {
            let name = plain(requirement_name(line));
            name == plain(module)
                || Some(&name) == package.as_ref()
                || name.starts_with(&(plain(module) + "_"))
        })
    }
}

/// The packages and modules of ComfyUI's own folder.
const OF_COMFYUI: &[&str] = &[
    "api_server",
    "app",
    "comfy",
    "comfy_api",
    "comfy_api_nodes",
    "comfy_config",
    "comfy_execution",
    "comfy_extras",
    "cuda_malloc",
    "execution",
    "folder_paths",
    "latent_preview",
    "middleware",
    "node_helpers",
    "nodes",
    "protocol",
    "server",
];

fn write_hint(who: &str, inner: &str, line: &str) -> String {
    format!(
        "ComfyUI reports that {who} tried to write {inner}: if you agree, add to comfy.toml, then \
         `comfy apply`: {line}"
    )
}

/// What the owner puts into a share while ComfyUI runs has the group and mode that it had elsewhere
/// (`mv`, `cp -p`), or that their umask gives; the next launch repairs only what it may write.
fn mode_hint(share: &LoggedShare, closed: &str) -> String {
    let name = &share.name;
    let what = match closed {
        "" => "share",
        path => path,
    };
    format!(
        "ComfyUI reports that it cannot use {what} in share {name}: the group or the mode is not that \
         of the share, as when it was moved there while ComfyUI runs. To repair it, run `comfy \
         apply --only share.{name}`, then try again"
    )
}

fn share_hint(who: &str, share: &LoggedShare, inner: &str) -> Option<String> {
    let name = &share.name;
    let what = if inner.is_empty() { "into it" } else { inner };
    let (is, access) = match share.access {
        ShareAccess::Read => ("read-only for ComfyUI", "add"),
        ShareAccess::Add => ("one to which ComfyUI only adds", "write"),
        ShareAccess::Write => return None,
    };
    Some(format!(
        "ComfyUI reports that {who} tried to write {what} in share {name}, which is {is}: if you \
         agree, write in comfy.toml, then `comfy apply`: [shares.{name}] access = \"{access}\""
    ))
}

/// Returns what stands in the first quotation marks.
fn quoted_part(text: &str) -> Option<&str> {
    let start = text.find(['\'', '"'])?;
    let quote = text[start..].chars().next()?;
    text[start + 1..].split(quote).next()
}

/// Returns whether a path can be shown inside of a line of comfy.toml.
fn is_plain(path: &str) -> bool {
    path.chars()
        .all(|c| c.is_alphanumeric() || "-_./ ".contains(c))
}

fn is_module(name: &str) -> bool {
    (1..=100).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Returns `HOST:PORT` of urllib3's messages: `HTTPSConnectionPool(host='x', port=443)`.
fn pool_host(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("host='")?;
    let (host, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("port=")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{host}:{port}"))
}

/// Returns the packages of a pip that failed, as subprocess.CalledProcessError and its like print
/// them; `None` if the line is of something else.
fn pip_packages(line: &str) -> Option<Vec<String>> {
    if !line.contains("returned ") || !line.contains("pip") {
        return None;
    }
    let (_, after) = line.split_once("install")?;
    let (command, _) = after.split_once("returned ")?;
    let words = command.split([' ', ',', '\'', '"', '[', ']']);
    let name = |w: &&str| {
        !w.is_empty()
            && w.len() <= 80
            && w.starts_with(|c: char| c.is_ascii_alphanumeric())
            && w.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.=<>~!".contains(c))
    };
    Some(words.filter(name).take(5).map(String::from).collect())
}

/// Returns the name in a requirement, or what its address most likely is called.
fn requirement_name(line: &str) -> &str {
    let line = line.trim();
    if line.contains("://") && !line.contains(" @ ") {
        let path = line.split(['#', '?']).next().unwrap_or_default();
        let path = path.trim_end_matches('/');
        let last = path.rsplit('/').next().unwrap_or_default();
        let last = last.split('@').next().unwrap_or_default();
        return match last.strip_suffix(".whl") {
            Some(wheel) => wheel.split('-').next().unwrap_or_default(),
            None => last.trim_end_matches(".git"),
        };
    }
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
    &line[..end.unwrap_or(line.len())]
}
