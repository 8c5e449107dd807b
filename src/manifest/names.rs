//! Rules for names that reach paths, account databases and git: checked once, here.

use unicode_normalization::UnicodeNormalization;

/// A folder name under custom_nodes/, or a share's name: `[A-Za-z0-9._-]{1,64}`, no leading `.` or
/// `-`.
pub fn check_folder(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 64 {
        return Err("must have 1 to 64 characters");
    }
    if name.starts_with(['-', '.']) {
        return Err("must not start with `-` or `.`");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return Err("may hold letters, digits, `.`, `_` and `-` only");
    }
    if name.eq_ignore_ascii_case("__pycache__") || name.to_ascii_lowercase().ends_with(".disabled")
    {
        return Err("has a meaning of its own in ComfyUI");
    }
    Ok(())
}

/// A user or group name that useradd(8) and dscl(1) both take.
pub fn check_account(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 31 {
        return Err("must have 1 to 31 characters");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
        return Err("must start with a lower-case letter or `_`");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    {
        return Err("may hold lower-case letters, digits, `_` and `-` only");
    }
    Ok(())
}

/// Groups whose members gain rights: sharing through one of them would hand those rights to the
/// sandbox.
pub const PRIVILEGED_GROUPS: &[&str] = &[
    "root",
    "wheel",
    "admin",
    "sudo",
    "adm",
    "staff",
    "everyone",
    "nogroup",
    "nobody",
    "docker",
    "lxd",
    "disk",
    "shadow",
    "kmem",
    "libvirt",
    "kvm",
    "users",
    "daemon",
    "sys",
    "operator",
    "systemd-journal",
];

/// Accounts that must never become the sandbox.
pub const SYSTEM_USERS: &[&str] = &[
    "root", "daemon", "nobody", "bin", "sys", "sync", "mail", "man", "_www", "www-data",
];

/// A git ref as asked for: a branch, a tag or a commit (git-check-ref-format(1), and never an
/// option).
pub fn git_ref(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 200 {
        return Err("must have 1 to 200 characters");
    }
    if name.starts_with('-')
        || name.starts_with('/')
        || name.ends_with('/')
        || name.ends_with(".lock")
        || name.ends_with('.')
    {
        return Err("is no name that git accepts");
    }
    if name.contains("..") || name.contains("@{") || name.contains("//") {
        return Err("is no name that git accepts");
    }
    if name
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\\"'`$;&|<>(){}!#".contains(c))
    {
        return Err("has a character that no ref may have");
    }
    Ok(())
}

pub fn is_commit(s: &str) -> bool {
    s.len() == 40 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub fn is_sha256(s: &str) -> bool {
    s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// An https address without user, query or fragment.
pub fn repo_url(url: &str) -> Result<(), &'static str> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("must be an https:// address (a local copy goes through COMFY_MIRRORS)");
    };
    if rest
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "\"'`\\<>{}|^".contains(c))
    {
        return Err("has a character that no address may have");
    }
    if rest.contains(['?', '#']) {
        return Err("must have no query and no fragment");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("must hold no user name or token");
    }
    if host.is_empty() || host.starts_with('-') || path.trim_matches('/').is_empty() {
        return Err("must name a host and a repository");
    }
    if path.split('/').any(|c| c == ".." || c.starts_with('-')) {
        return Err("has a path component that is not allowed");
    }
    Ok(())
}

/// Two addresses that mean the same repository give the same key: case, `.git` and trailing `/`
/// aside.
pub fn repo_key(url: &str) -> String {
    let u = url.trim_end_matches('/');
    u.strip_suffix(".git")
        .unwrap_or(u)
        .to_lowercase()
        .replace("//www.github.com/", "//github.com/")
}

/// A path inside a tree: relative, clean, no control characters.
pub fn check_relative(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 1024 {
        return Err("must have 1 to 1024 characters");
    }
    // Without a branch for each byte, so that many are looked at at once.
    if path
        .bytes()
        .fold(false, |so_far, b| so_far | b.is_ascii_control())
        || (!path.is_ascii() && path.chars().any(char::is_control))
    {
        return Err("has a control character");
    }
    if path.starts_with('/') {
        return Err("must be relative");
    }
    for part in path.split('/') {
        match part {
            "" => return Err("has a `/` too many"),
            "." | ".." => return Err("must not contain `.` or `..`"),
            _ => {}
        }
    }
    Ok(())
}

/// What a `writable` path that no tree has stands for: a name without a dot is a folder.
pub fn stands_for_folder(path: &str) -> bool {
    std::path::Path::new(path).extension().is_none()
}

/// Files that run, or that the browser runs.
pub fn is_code(path: &str) -> bool {
    let lower = path.to_lowercase();
    [
        ".py", ".pyc", ".pyd", ".so", ".dylib", ".js", ".mjs", ".pth",
    ]
    .iter()
    .any(|e| lower.ends_with(e))
}

/// What ComfyUI takes for a model (folder_paths.py, `supported_pt_extensions`), and what common
/// nodes add.
const MODELS: &[&str] = &[
    "safetensors",
    "sft",
    "ckpt",
    "pt",
    "pt2",
    "pth",
    "bin",
    "pkl",
    "gguf",
    "onnx",
];
/// What lies beside models and is fetched with them: their settings, words and tokens, and other
/// programs' weights.
const BESIDE_MODELS: &[&str] = &[
    "json", "yaml", "yml", "txt", "model", "msgpack", "h5", "pb", "tflite", "npz",
];

fn ends_with(path: &str, endings: &[&str]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    !name.starts_with('.')
        && name
            .rsplit_once('.')
            .is_some_and(|(_, e)| endings.iter().any(|x| e.eq_ignore_ascii_case(x)))
}

/// Whether a file of this name would be loaded as a model.
pub fn is_model(path: &str) -> bool {
    ends_with(path, MODELS)
}

/// Whether a file of this name is one, or comes with one.
pub fn comes_with_models(path: &str) -> bool {
    is_model(path) || ends_with(path, BESIDE_MODELS)
}

/// Whether [`folded_name`] would change nothing.
pub fn is_folded(name: &str) -> bool {
    if name.is_ascii() {
        !name
            .bytes()
            .fold(false, |so_far, b| so_far | b.is_ascii_uppercase())
    } else {
        folded_name(name) == name
    }
}

/// The form in which APFS compares names: NFD and case folded.
pub fn folded_name(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.nfd().flat_map(char::to_lowercase).collect()
}
