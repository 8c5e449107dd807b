//! Tells a release build which commit it is of, as far as git's own files say.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "how a build script talks to cargo"
)]

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let profile = std::env::var("PROFILE").unwrap_or_default();
    // Every commit would compile a development build anew.
    let build = if profile == "release" {
        head_commit().unwrap_or_else(|| "unknown commit".into())
    } else {
        "development build".into()
    };
    println!("cargo:rustc-env=COMFY_BUILD={build}");
}

/// Returns the commit of HEAD (gitrepository-layout(5)): in a worktree, `.git` is a file, and refs
/// are in the common folder.
fn head_commit() -> Option<String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let mut git = root.join(".git");
    if let Ok(text) = std::fs::read_to_string(&git) {
        git = root.join(text.strip_prefix("gitdir:")?.trim());
    }
    let common = std::fs::read_to_string(git.join("commondir"))
        .map_or_else(|_| git.clone(), |text| git.join(text.trim()));
    let head = read(&git.join("HEAD"))?;
    let commit = match head.strip_prefix("ref:").map(str::trim) {
        None => head.trim().to_string(),
        Some(name) => read(&common.join(name)).or_else(|| {
            let packed = read(&common.join("packed-refs"))?;
            let line = packed.lines().find(|l| l.ends_with(&format!(" {name}")))?;
            line.split(' ').next().map(String::from)
        })?,
    };
    commit.trim().get(..9).map(String::from)
}

fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text)
}
