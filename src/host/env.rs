//! The only place that reads the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::models::{ModelHubs, SecretText};
use super::net::NetEnv;
use super::tools;
use crate::host::machine::operating_system;
use crate::host::models::object_storage::StorageCredentials;
use crate::host::net::mirrors::MirrorRules;
use crate::manifest::hub_pages;
use crate::problem::{Problem, Result};

/// Variables that fetching honours: proxies, certificates, package indexes, and which uv.
const NET_VARS: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "COMFY_UV",
    "COMFY_STALL_SECONDS",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "PIP_INDEX_URL",
    "UV_HTTP_TIMEOUT",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_PYTHON_DOWNLOADS_JSON_URL",
    "UV_SYSTEM_CERTS",
    "UV_NATIVE_TLS",
    "UV_INSECURE_HOST",
];

/// A variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the only place that reads the environment"
)]
pub(crate) fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The variables that only a build for tests (feature `faults`) listens to: where to end, which
/// system to be, and where its tools are.
const TEST_SWITCHES: [&str; 3] = ["COMFY_FAULT", "COMFY_PLATFORM", "COMFY_TOOLS"];

/// A variable for tests, which a release never sees.
pub(crate) fn test_switch(name: &str) -> Option<String> {
    debug_assert!(TEST_SWITCHES.contains(&name));
    if cfg!(feature = "faults") {
        var(name)
    } else {
        None
    }
}

/// Those that are set, for a process of comfy's own that starts with a cleared environment.
pub(crate) fn test_switches() -> impl Iterator<Item = (&'static str, String)> {
    TEST_SWITCHES
        .into_iter()
        .filter_map(|name| Some((name, test_switch(name)?)))
}

/// The same without the white space around it, which comes along when a key is pasted or read from a
/// file.
fn trimmed(name: &str) -> Option<String> {
    var(name)
        .map(|v| v.trim().to_string())
        .filter(|v| !v.is_empty())
}

/// A key as a header may have it (RFC 9110, 5.5).
fn secret(name: &str, text: Option<String>) -> Result<Option<SecretText>> {
    match text {
        Some(t) if t.chars().any(|c| c.is_control() || c.is_whitespace() || !c.is_ascii()) => {
            Err(Problem::new(format!(
                "{name} has white space, a control character or a letter outside ASCII in it, which \
                 no key has"
            ))
            .with_hint("copy the key again, or unset the variable"))
        }
        text => Ok(text.map(SecretText::new)),
    }
}

/// Mirrors, proxies and certificates of the caller.
///
/// # Errors
/// A malformed COMFY_MIRRORS.
pub(crate) fn net_env() -> Result<NetEnv> {
    let vars: BTreeMap<String, String> = NET_VARS
        .iter()
        .filter_map(|k| Some(((*k).to_string(), var(k)?)))
        .collect();
    let from_file = || {
        let text = std::fs::read_to_string(config_home()?.join("config.toml")).ok()?;
        text.parse::<toml::Table>()
            .ok()?
            .get("mirrors")?
            .as_str()
            .map(str::to_string)
    };
    let mirrors = var("COMFY_MIRRORS").or_else(from_file).unwrap_or_default();
    Ok(NetEnv {
        mirrors: MirrorRules::parse(&mirrors)?,
        vars,
    })
}

/// The service that is asked for advisories of packages, before mirrors; `None`: none is asked.
///
/// # Errors
/// An address that is neither https:// nor on this machine.
pub(crate) fn advisory_service() -> Result<Option<String>> {
    const NAME: &str = "COMFY_ADVISORY_SERVICE";
    let text = trimmed(NAME).unwrap_or_else(|| "https://api.osv.dev".into());
    let text = text.trim_end_matches('/');
    if text == "off" {
        return Ok(None);
    }
    match crate::manifest::model_source(&format!("{text}/")) {
        Ok(()) if text.starts_with("http") => Ok(Some(text.to_string())),
        _ => Err(Problem::new(format!(
            "{NAME}: `{}` is not an https:// address",
            crate::text::escape_text(text)
        ))
        .with_hint("give the address of a service that speaks OSV's API, or `off`")),
    }
}

/// The servers that models come from, by the names that their own tools give these variables
/// (huggingface_hub's "Environment variables"; civitai's API reference; the AWS SDKs' reference),
/// and the caller's keys for them.
///
/// # Errors
/// An address that is neither https:// nor on this machine; a key that cannot be sent.
pub(crate) fn model_hubs() -> Result<ModelHubs> {
    let address = |name: &str, default: &str| -> Result<String> {
        let text = var(name)
            .unwrap_or_else(|| default.into())
            .trim()
            .trim_end_matches('/')
            .to_string();
        match crate::manifest::model_source(&format!("{text}/")) {
            Ok(()) if text.starts_with("http") => Ok(text),
            _ => Err(Problem::new(format!(
                "{name}: `{}` is not an https:// address",
                crate::text::escape_text(&text)
            ))
            .with_hint("http:// is allowed only for this machine")),
        }
    };
    let file = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| {
        let own = var("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(base_dir("XDG_CACHE_HOME", ".cache", ".cache")?.join("huggingface")));
        own.map(|p| p.join("token"))
    });
    let from_file = || {
        std::fs::read_to_string(file?)
            .ok()
            .map(|t| t.trim().to_string())
            .filter(|t| !t.is_empty())
    };
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find(|n| var(n).is_some());
    // A key has several lines; what is in them is the signing's to judge.
    let google = || {
        std::fs::read_to_string(var("GOOGLE_APPLICATION_CREDENTIALS")?)
            .ok()
            .map(SecretText::new)
    };
    let stores = StorageCredentials {
        endpoint: endpoint.map(|n| address(n, "")).transpose()?,
        region: var("AWS_REGION")
            .or_else(|| var("AWS_DEFAULT_REGION"))
            .unwrap_or_else(|| "us-east-1".into()),
        key_id: trimmed("AWS_ACCESS_KEY_ID"),
        key: secret("AWS_SECRET_ACCESS_KEY", trimmed("AWS_SECRET_ACCESS_KEY"))?,
        session: secret("AWS_SESSION_TOKEN", trimmed("AWS_SESSION_TOKEN"))?,
        google: google(),
        azure: trimmed("AZURE_STORAGE_ACCOUNT_NAME"),
        azure_endpoint: var("AZURE_STORAGE_SERVICE_ENDPOINT")
            .map(|_| address("AZURE_STORAGE_SERVICE_ENDPOINT", ""))
            .transpose()?,
        azure_key: secret(
            "AZURE_STORAGE_ACCOUNT_KEY",
            trimmed("AZURE_STORAGE_ACCOUNT_KEY"),
        )?,
    };
    Ok(ModelHubs {
        stores,
        huggingface: address("HF_ENDPOINT", hub_pages::HUGGING_FACE)?,
        huggingface_token: secret("HF_TOKEN", trimmed("HF_TOKEN").or_else(from_file))?,
        civitai: address("CIVITAI_ENDPOINT", hub_pages::CIVITAI)?,
        civitai_token: secret("CIVITAI_API_TOKEN", trimmed("CIVITAI_API_TOKEN"))?,
        patience: net_env()?.stall_timeout(),
    })
}

/// The caller's home. macOS's sudo keeps the HOME of whoever called it (its sudoers: `env_keep`), and
/// root has no business in there.
pub(crate) fn home_dir() -> Option<PathBuf> {
    let me = nix::unistd::geteuid();
    if me.is_root() && var("SUDO_UID").is_some() {
        return nix::unistd::User::from_uid(me)
            .ok()
            .flatten()
            .map(|u| u.dir);
    }
    var("HOME").map(PathBuf::from).filter(|p| p.is_absolute())
}

fn base_dir(variable: &str, linux: &str, mac: &str) -> Option<PathBuf> {
    let own = var(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    own.or_else(|| {
        Some(home_dir()?.join(if operating_system().is_macos() {
            mac
        } else {
            linux
        }))
    })
}

/// The user's config folder for comfy, which may contain comfy.toml and `config.toml`.
pub(crate) fn config_home() -> Option<PathBuf> {
    Some(base_dir("XDG_CONFIG_HOME", ".config", ".config")?.join("comfy"))
}

/// Where fetched outlines and comfy's own git configuration are kept; may be deleted at any time.
pub(crate) fn cache_home() -> Option<PathBuf> {
    Some(base_dir("XDG_CACHE_HOME", ".cache", "Library/Caches")?.join("comfy"))
}

/// The folders of PATH, in its order.
pub(crate) fn path_folders() -> Vec<PathBuf> {
    var("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect())
}

/// The program `name` in PATH.
pub(crate) fn find_in_path(name: &str) -> Option<PathBuf> {
    which_in(&var("PATH")?, name)
}

/// The folders of programs that anybody may run.
pub(crate) const PUBLIC_PATH: &str = "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin";

/// The program `name` in the folders of `path`; never one of Apple's stubs.
pub(crate) fn which_in(path: &str, name: &str) -> Option<PathBuf> {
    path.split(':')
        .filter(|d| d.starts_with('/'))
        .map(|d| Path::new(d).join(name))
        .filter(|p| !tools::is_apple_stub(p))
        .find(|p| nix::unistd::access(p, nix::unistd::AccessFlags::X_OK).is_ok() && p.is_file())
}

/// The caller's PATH for a program that searches it itself, without the folder of Apple's stubs.
pub(crate) fn path_without_stubs(path: &str) -> String {
    if !operating_system().is_macos() {
        return path.into();
    }
    let kept = path
        .split(':')
        .filter(|d| d.trim_end_matches('/') != "/usr/bin");
    let kept: Vec<&str> = kept.filter(|d| !d.is_empty()).collect();
    // An empty PATH would be replaced by a default one (execvp(3)).
    if kept.is_empty() {
        "/var/empty".into()
    } else {
        kept.join(":")
    }
}

/// The git program, looked up in the caller's PATH or, for the root side (whose build uid runs it),
/// in the usual folders. macOS's /usr/bin/git is a stub that opens a window where the developer
/// tools are missing, so the tools are asked for first.
pub(crate) fn git_program(fixed_path: bool) -> Option<PathBuf> {
    let mac = operating_system().is_macos();
    let tools = [
        "/Library/Developer/CommandLineTools/usr/bin/git",
        "/Applications/Xcode.app/Contents/Developer/usr/bin/git",
    ];
    if let Some(found) = tools.iter().map(PathBuf::from).find(|p| mac && p.exists()) {
        return Some(found);
    }
    let path = if fixed_path {
        PUBLIC_PATH.to_string()
    } else {
        var("PATH")?
    };
    which_in(&path, "git")
}
