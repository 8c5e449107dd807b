//! Rules for names that reach paths, account databases and git. They are checked here, once.

use unicode_normalization::UnicodeNormalization;

/// Checks a folder name under custom_nodes/, or a share's name: `[A-Za-z0-9._-]{1,64}`, no leading
/// `.` or `-`.
pub(crate) fn check_folder(name: &str) -> Result<(), &'static str> {
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
        return Err("may contain only letters, digits, `.`, `_` and `-`");
    }
    if name.eq_ignore_ascii_case("__pycache__") || name.to_ascii_lowercase().ends_with(".disabled")
    {
        return Err("has a special meaning in ComfyUI");
    }
    Ok(())
}

/// Checks the name of an account that exists, and that comfy only looks up: directories and macOS
/// hand out names with dots and capitals.
pub(crate) fn check_existing_account(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 255 {
        return Err("must have 1 to 255 characters");
    }
    if name.starts_with('-') {
        return Err("must not start with `-`");
    }
    if name
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ',' | '"' | '\''))
    {
        return Err("has a character that no account has");
    }
    Ok(())
}

/// Checks a user or group name; useradd(8) and dscl(1) both accept what passes.
pub(crate) fn check_account(name: &str) -> Result<(), &'static str> {
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
        return Err("may contain only lower-case letters, digits, `_` and `-`");
    }
    Ok(())
}

/// Groups whose members gain rights: sharing through one of them would hand those rights to the
/// sandbox.
pub(crate) const PRIVILEGED_GROUPS: &[&str] = &[
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
pub(crate) const SYSTEM_USERS: &[&str] = &[
    "root", "daemon", "nobody", "bin", "sys", "sync", "mail", "man", "_www", "www-data",
];

/// Checks a git ref: a branch, a tag or a commit (git-check-ref-format(1), and never an option).
pub(crate) fn git_ref(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > 200 {
        return Err("must have 1 to 200 characters");
    }
    if name.starts_with('-')
        || name.starts_with('/')
        || name.ends_with('/')
        || name.ends_with(".lock")
        || name.ends_with('.')
    {
        return Err("is not a name that git accepts");
    }
    if name.contains("..") || name.contains("@{") || name.contains("//") {
        return Err("is not a name that git accepts");
    }
    if name
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\\"'`$;&|<>(){}!#".contains(c))
    {
        return Err("has a character that is not allowed in a ref");
    }
    Ok(())
}

/// The ref that stands for a repository's default branch, which git itself calls so.
pub(crate) const DEFAULT_REF: &str = "HEAD";

pub(crate) fn is_hex(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Returns whether it may be the beginning of a commit's id.
pub(crate) fn is_short_commit(s: &str) -> bool {
    (6..40).contains(&s.len()) && is_hex(s)
}

pub(crate) fn is_commit(s: &str) -> bool {
    s.len() == 40 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn is_sha256(s: &str) -> bool {
    s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks a repository's address: https, without user, query or fragment.
pub(crate) fn repo_url(url: &str) -> Result<(), &'static str> {
    let Some(rest) = url.strip_prefix("https://") else {
        return Err("must be an https:// address (for a local copy, set COMFY_MIRRORS)");
    };
    if rest
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "\"'`\\<>{}|^".contains(c))
    {
        return Err("has a character that is not allowed in an address");
    }
    if rest.contains(['?', '#']) {
        return Err("must not have a query or a fragment");
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("must not contain a user name or token");
    }
    if host.is_empty() || host.starts_with('-') || path.trim_matches('/').is_empty() {
        return Err("must name a host and a repository");
    }
    if path.split('/').any(|c| c == ".." || c.starts_with('-')) {
        return Err("has a path component that is not allowed");
    }
    Ok(())
}

/// Returns the same key for addresses of the same repository, whatever their case, `.git` and
/// trailing `/`.
pub(crate) fn repo_key(url: &str) -> String {
    let u = url.trim_end_matches('/');
    u.strip_suffix(".git")
        .unwrap_or(u)
        .to_lowercase()
        .replace("//www.github.com/", "//github.com/")
}

/// Checks whether comfy.toml can name a model's file, as it was read from the disk.
pub(crate) fn check_model_file(path: &str) -> Result<(), &'static str> {
    check_relative(path)?;
    if path.contains('\u{fffd}') {
        return Err("is not UTF-8");
    }
    Ok(())
}

/// Checks a path inside a tree: relative, clean, without control characters.
pub(crate) fn check_relative(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 1024 {
        return Err("must have 1 to 1024 characters");
    }
    // No branch for each byte, so that many are compared at once.
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
            "" => return Err("has one `/` too many"),
            "." | ".." => return Err("must not contain `.` or `..`"),
            _ => {}
        }
    }
    Ok(())
}

/// Returns whether `path` is `folder`, or in it.
pub(crate) fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|r| r.is_empty() || r.starts_with('/'))
}

/// Returns whether a `writable` path that is not in the tree is a folder: a name without a dot is.
pub(crate) fn stands_for_folder(path: &str) -> bool {
    std::path::Path::new(path).extension().is_none()
}

/// Returns whether the file is one that Python, the system or the browser runs.
pub(crate) fn is_code(path: &str) -> bool {
    let lower = path.to_lowercase();
    [
        ".py", ".pyc", ".pyd", ".so", ".dylib", ".js", ".mjs", ".pth",
    ]
    .iter()
    .any(|e| lower.ends_with(e))
}

/// The extensions that ComfyUI takes for models (folder_paths.py, `supported_pt_extensions`), and
/// those that common nodes add.
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
/// The extensions of files that come with models: settings, vocabularies, tokens, and other
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

/// Returns whether a file of this name would be loaded as a model.
pub(crate) fn is_model(path: &str) -> bool {
    ends_with(path, MODELS)
}

/// Returns whether a file of this name is a model, or comes with one.
pub(crate) fn comes_with_models(path: &str) -> bool {
    is_model(path) || ends_with(path, BESIDE_MODELS)
}

/// Returns whether [`folded_name`] would change nothing.
pub(crate) fn is_folded(name: &str) -> bool {
    if name.is_ascii() {
        !name
            .bytes()
            .fold(false, |so_far, b| so_far | b.is_ascii_uppercase())
    } else {
        folded_name(name) == name
    }
}

/// Returns the form in which APFS compares names: NFD and case-folded.
pub(crate) fn folded_name(name: &str) -> String {
    if name.is_ascii() {
        return name.to_ascii_lowercase();
    }
    name.nfd().flat_map(char::to_lowercase).collect()
}

/// Returns a name with its letters and their marks in one (NFC), as keyboards write them.
pub(crate) fn composed_name(name: &str) -> String {
    name.nfc().collect()
}

/// A package name as indexes compare them (PEP 503).
pub(crate) fn normalize_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '_' | '.' if out.ends_with('-') => {}
            '-' | '_' | '.' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}
