//! comfy.toml, the declared setup. [`wire`] is its form on disk; [`validate`] turns it into this
//! model or reports what is wrong.

pub(crate) mod edit;
pub(crate) mod env_vars;
pub(crate) mod hub_pages;
pub(crate) mod model_tables;
pub(crate) mod names;
pub(crate) mod node_advice;
pub(crate) mod node_source;
pub(crate) mod platforms;
pub(crate) mod repo_address;
pub(crate) mod reserved_paths;
pub(crate) mod schema;
pub(crate) mod source;
pub(crate) mod starter;
pub(crate) mod type_errors;
mod validate;
mod values;
pub(crate) mod wheel_sources;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytestring::ByteString;

pub(crate) use crate::manifest::platforms::{Accelerator, LockPlatform, PackageIndex};
pub(crate) use crate::manifest::source::TomlSource;
pub(crate) use crate::manifest::values::{model_address, model_source, reserved_flag};
pub(crate) use crate::manifest::wheel_sources::WheelSource;

use super::problem::{ProblemKind, Result};

/// A sorted map in one piece of memory: with twenty thousand entries, a tree would need thousands
/// of allocations.
pub(crate) type Table<V> = litemap::LiteMap<ByteString, V>;

/// A list of strings as TOML has it, on one line.
pub(crate) fn quoted_list(items: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = items
        .iter()
        .map(|s| toml::Value::String(s.as_ref().to_string()).to_string())
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// The share of a model that does not name one.
pub(crate) const MODELS: &str = "models";

/// The manifest of one machine: the file with its `[hosts.NAME]` part merged in.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub source: TomlSource,
    /// The machine's name, as in `[hosts.NAME]`.
    pub hosts: Vec<String>,
    pub host: HostSettings,
    pub comfyui: ComfyuiSettings,
    pub python: PythonSettings,
    pub nodes: BTreeMap<String, NodeSettings>,
    pub models: Table<ModelSettings>,
    pub shares: BTreeMap<String, ShareSettings>,
    pub run: RunSettings,
    pub network: NetworkSettings,
    pub policy: PolicySettings,
}

#[derive(Debug, Clone)]
pub(crate) struct HostSettings {
    pub primary_user: Option<String>,
    pub sandbox_user: String,
    pub group: String,
    pub gid: Option<u32>,
    /// Whether an existing account may become the sandbox user.
    pub adopt: bool,
    pub isolation: IsolationMode,
    pub prefix: Option<PathBuf>,
    /// The machine's own; `None`: what `indexes` have for machines without one.
    pub accelerator: Option<Accelerator>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IsolationMode {
    Account,
    None,
}

#[derive(Debug, Clone)]
pub(crate) struct ComfyuiSettings {
    pub repo: String,
    pub git_ref: String,
    pub view: Option<String>,
    pub listen: String,
    pub allow_remote: bool,
    pub port: u16,
    pub args: Vec<String>,
    /// Paths below `web`, for nodes that put files there.
    pub writable: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct PythonSettings {
    pub version: String,
    pub requirements: Vec<String>,
    pub overrides: Vec<String>,
    pub minimum_age: chrono::Duration,
    /// The platforms that the lock serves, sorted.
    pub platforms: Vec<LockPlatform>,
    pub indexes: Vec<PackageIndex>,
    pub wheels: Vec<WheelSource>,
    /// Normalised names of packages whose `.pth` files may have code.
    pub allow_pth: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct NodeSettings {
    /// As [`node_source::NodeSource`] reads it.
    pub repo: String,
    /// The ref of a repository, the version of the registry.
    pub git_ref: String,
    pub enabled: bool,
    #[expect(dead_code, reason = "checked; for people who read comfy.toml")]
    pub note: Option<String>,
    pub writable: Vec<String>,
    pub ignore_requirements: Vec<String>,
    /// Which files of its tree are read; `None`: requirements.txt, if it has one.
    pub requirements_files: Option<Vec<String>>,
    /// Files and folders of its tree that are not installed, sorted.
    pub exclude: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct ModelSettings {
    /// The share's name; models of the same share have the same text in memory.
    pub share: Arc<str>,
    pub source: Option<String>,
    pub sha256: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct ShareSettings {
    /// The path as written; `~` is the primary user's home.
    pub path: String,
    pub role: ShareRole,
    pub access: ShareAccess,
    pub requires_mount: Option<PathBuf>,
    pub manage: bool,
}

/// How ComfyUI uses a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShareRole {
    /// It replaces this folder of ComfyUI's: `models`, `models/…`, `input`, `output`, `user/…`.
    Mount(String),
    /// Its folders for each kind of model, in addition to ComfyUI's own; `.` is the share itself.
    Models(BTreeMap<String, Vec<String>>),
}

impl ShareRole {
    pub(crate) fn mount_path(&self) -> Option<&str> {
        match self {
            ShareRole::Mount(m) => Some(m),
            ShareRole::Models(_) => None,
        }
    }

    pub(crate) fn holds_models(&self) -> bool {
        match self {
            ShareRole::Mount(m) => m == "models" || m.starts_with("models/"),
            ShareRole::Models(_) => true,
        }
    }

    /// Returns whether ComfyUI looks for models at `path` of the share: another program's folder
    /// holds more than models.
    pub(crate) fn shows_path(&self, path: &str) -> bool {
        let below = |folder: &String| {
            folder == "."
                || path
                    .strip_prefix(folder.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        match self {
            ShareRole::Mount(_) => self.holds_models(),
            ShareRole::Models(kinds) => kinds.values().flatten().any(below),
        }
    }
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ShareAccess {
    Read,
    Write,
    Add,
}

#[derive(Debug, Clone)]
pub(crate) struct RunSettings {
    pub open_files: u64,
    /// Memory kept for the system, in bytes.
    pub memory_reserve: u64,
    /// Whether sudo starts ComfyUI without a password, through a rule for one root-owned program.
    pub passwordless: bool,
    /// Whether the system starts ComfyUI at boot.
    pub boot: bool,
    pub env: BTreeMap<String, String>,
    pub session: LaunchSession,
}

/// The Mach bootstrap namespace and audit session that ComfyUI runs in, on macOS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LaunchSession {
    /// That of the sandbox user's uid.
    #[default]
    Own,
    /// That of whoever starts it.
    Caller,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EgressPolicy {
    Deny,
    Allow,
    /// Entries of the form `host:port`.
    Only(Vec<String>),
}

impl EgressPolicy {
    /// Returns whether ComfyUI may reach `host:port`; `*.` in a list stands for every name below.
    pub(crate) fn allows(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            EgressPolicy::Deny => false,
            EgressPolicy::Allow => true,
            EgressPolicy::Only(list) => {
                list.iter()
                    .filter_map(|e| e.rsplit_once(':'))
                    .any(|(name, p)| {
                        let name = name.to_ascii_lowercase();
                        let fits = match name.strip_prefix("*.") {
                            Some(domain) => host
                                .strip_suffix(domain)
                                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
                            None => host == name,
                        };
                        fits && p.parse() == Ok(port)
                    })
            }
        }
    }

    /// Returns the line of comfy.toml that allows `HOST:PORT` as well.
    pub(crate) fn line_that_allows(&self, host: &str) -> String {
        let list = match self {
            EgressPolicy::Only(list) => &list[..],
            EgressPolicy::Deny | EgressPolicy::Allow => &[],
        };
        let all = list.iter().map(String::as_str).chain([host]);
        let quoted: Vec<String> = all.map(|e| format!("\"{e}\"")).collect();
        format!("[network] egress = [{}]", quoted.join(", "))
    }

    /// Returns the ports in the list.
    pub(crate) fn allowed_ports(&self) -> Vec<u16> {
        let EgressPolicy::Only(list) = self else {
            return Vec::new();
        };
        list.iter()
            .filter_map(|e| e.rsplit_once(':')?.1.parse().ok())
            .collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientPolicy {
    Primary,
    Any,
    /// A list of addresses; only with `allow_remote`.
    Only(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct NetworkSettings {
    pub egress: EgressPolicy,
    pub clients: ClientPolicy,
}

/// A choice of comfy.toml that is one of a few words.
pub(crate) trait Choice: Copy + 'static {
    /// Every choice with its word; the first is the default.
    const WORDS: &'static [(Self, &'static str)];
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$each])* $variant),+
        }

        impl Choice for $name {
            const WORDS: &'static [(Self, &'static str)] = &[$(($name::$variant, $word)),+];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(match self {
                    $($name::$variant => $word),+
                })
            }
        }
    };
}

choice!(
    /// What a finding of the scan does (`policy.scan`).
    ScanPolicy {
        Warn = "warn",
        Block = "block",
        Off = "off",
    }
);
choice!(
    /// Whether a person has to have looked at new code (`policy.review`).
    ReviewPolicy {
        Off = "off",
        Required = "required",
    }
);
choice!(
    /// What is done where the kernel cannot confine a launch (`policy.confinement`).
    ConfinementPolicy {
        /// Nothing is started.
        Required = "required",
        /// It is started with a warning.
        Warn = "warn",
    }
);

#[derive(Debug, Clone)]
pub(crate) struct PolicySettings {
    pub scan: ScanPolicy,
    pub review: ReviewPolicy,
    pub confinement: ConfinementPolicy,
    /// A program that reads the diff of a review, with its arguments.
    pub reviewer: Option<Vec<String>>,
    pub accept: Vec<AcceptEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcceptEntry {
    pub node: String,
    pub rule: String,
    pub path: String,
    pub reason: String,
}

impl Manifest {
    /// Parses `text`, merges the section of the machine called `hostname`, and checks everything.
    ///
    /// # Errors
    /// One problem that lists every mistake with file, line and column, and how to fix it.
    pub(crate) fn parse(path: &Path, text: &ByteString, hostname: &str) -> Result<Manifest> {
        validate::parse_manifest(path, text, hostname).map_err(|p| p.about(ProblemKind::Manifest))
    }
}

#[cfg(test)]
mod tests {
    use super::EgressPolicy;

    #[test]
    fn a_list_means_its_hosts_and_ports_and_no_others() {
        let list = EgressPolicy::Only(vec!["huggingface.co:443".into(), "*.hf.co:443".into()]);
        for (host, port, is) in [
            ("huggingface.co", 443, true),
            ("HuggingFace.co.", 443, true),
            ("huggingface.co", 80, false),
            ("cdn.hf.co", 443, true),
            ("a.b.hf.co", 443, true),
            ("hf.co", 443, false),
            (".hf.co", 443, false),
            ("evilhf.co", 443, false),
            ("huggingface.co.evil.test", 443, false),
            ("evil-huggingface.co", 443, false),
        ] {
            assert_eq!(list.allows(host, port), is, "{host}:{port}");
        }
        assert!(
            !EgressPolicy::Deny.allows("huggingface.co", 443)
                && EgressPolicy::Allow.allows("anything.test", 1)
        );
    }
}
