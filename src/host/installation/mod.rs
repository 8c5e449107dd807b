//! An installation of ComfyUI that others made, read where it lies: nothing of it is run, changed or
//! obeyed.

mod nodes;
mod python;
mod shares;

use std::path::{Path, PathBuf};

use crate::adopt::{self, Adopted, GitPin, Loss};
use crate::host::fs::read_regular;
use crate::host::git::checkout::{self, CheckoutChanges, GitCheckout};
use crate::problem::{Context, Problem, Result};
use crate::text::{count_of, escape_text, format_bytes, short_commit};

/// The largest file of another tool's, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// How many paths a line names.
const SHOWN: usize = 5;

/// What an installation is, and the changes in it that no repository has.
#[derive(Default)]
pub(crate) struct Installation {
    pub adopted: Adopted,
    /// Patches by the name of their file.
    pub patches: Vec<(String, String)>,
}

/// What is asked of an installation beside its folder.
#[derive(Default)]
pub(crate) struct ReadingOptions {
    /// Its virtual environment, if it is not where they usually are.
    pub venv: Option<PathBuf>,
    /// Where patches go, for the remedies.
    pub patches: Option<PathBuf>,
}

/// Reads what lies at `path`: an installation, or a file of another tool's.
///
/// # Errors
/// It is neither, or cannot be read.
pub(crate) fn read_installation(path: &Path, options: &ReadingOptions) -> Result<Installation> {
    let meta = path
        .metadata()
        .with_context(|| format!("open {}", path.display()))?;
    if !meta.is_dir() {
        return read_foreign_file(path);
    }
    let inner = path.join("ComfyUI");
    if let Some(folder) = [path, &inner].into_iter().find(|f| is_comfyui(f)) {
        return read_folder(folder, options);
    }
    for name in [".cec/pyproject.toml", "pyproject.toml", "snapshot.json"] {
        let file = path.join(name);
        if file.is_file() {
            return read_foreign_file(&file);
        }
    }
    Err(Problem::new(format!(
        "{} is no installation of ComfyUI: it lacks main.py, nodes.py or custom_nodes/",
        path.display()
    ))
    .with_hint("give the folder that main.py is in, or a snapshot file"))
}

fn is_comfyui(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    has("main.py") && (has("nodes.py") || has("comfy")) && has("custom_nodes")
}

fn read_foreign_file(path: &Path) -> Result<Installation> {
    let named = |p: Problem| p.with_prefix(&format!("{}: ", path.display()));
    let meta = path
        .metadata()
        .with_context(|| format!("open {}", path.display()))?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(Problem::new(format!(
            "{} is no file of less than {}",
            path.display(),
            format_bytes(MAX_FILE)
        )));
    }
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Installation {
        adopted: adopt::read_file(&bytes).map_err(named)?,
        patches: Vec::new(),
    })
}

fn read_folder(folder: &Path, options: &ReadingOptions) -> Result<Installation> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("open {}", folder.display()))?;
    let mut out = Installation::default();
    out.adopted.format = "a ComfyUI folder";
    read_core(&mut out, &folder, options);
    let sections = shares::read_shares(&mut out.adopted, &folder);
    nodes::read_nodes(&mut out, &folder, &sections, options)?;
    python::read_packages(&mut out.adopted, &folder, options.venv.as_deref());
    if let Ok(text) = read_regular(&folder.join(".comfy_environment")) {
        out.adopted.lose(
            format!("installed by {}", escape_text(text.trim())),
            "nothing: let that program update it no more, once comfy has taken over",
        );
    }
    Ok(out)
}

/// Folders of ComfyUI that hold the owner's data, or what was installed into it.
const DATA: &[&str] = &[
    "models", "input", "output", "temp", "user", "venv", ".venv", "env",
];

fn read_core(out: &mut Installation, folder: &Path, options: &ReadingOptions) {
    let adopted = &mut out.adopted;
    let found = checkout::read_checkout(folder);
    let checkout = match found {
        Ok(Some(c)) => c,
        Ok(None) => {
            return adopted.lose(
                "comfyui: it is no git checkout, so that its version is not known",
                "the newest one is pinned; write its tag as `ref` in [comfyui], and run `comfy lock`",
            );
        }
        Err(p) => {
            return adopted.lose(
                format!("comfyui: its version is not known: {}", p.message),
                "the newest one is pinned; write its tag as `ref` in [comfyui], and run `comfy lock`",
            );
        }
    };
    match pin_of("comfyui", &checkout) {
        Ok(pin) => adopted.core = Some(pin),
        Err(loss) => {
            adopted.losses.push(loss);
            let own = GitPin::of_core(Some(&checkout.commit.to_string()));
            adopted.core = own.ok();
        }
    }
    let skip = |path: &str| {
        let first = path.split('/').next().unwrap_or(path);
        DATA.contains(&first)
            || path == "extra_model_paths.yaml"
            || path == ".comfy_environment"
            // Nodes are looked at one by one.
            || (first == "custom_nodes" && path != "custom_nodes/websocket_image_save.py" && path != first)
    };
    note_changes(out, "comfyui", folder, &checkout, &skip, options);
}

/// What a checkout pins.
fn pin_of(what: &str, checkout: &GitCheckout) -> Result<GitPin, Loss> {
    let commit = checkout.commit.to_string();
    let Some(remote) = &checkout.remote else {
        return Err(Loss::new(
            format!("{what}: its checkout has no remote"),
            "publish it and add it by hand: `repo` and `ref`",
        ));
    };
    let mut pin = GitPin::parse(what, remote, Some(&commit))?;
    // Where no branch is checked out, a tag was.
    pin.refs = match &checkout.branch {
        Some(branch) => vec![branch.clone()],
        None => checkout.tags.clone(),
    };
    Ok(pin)
}

/// Tells what a checkout has that its commit has not.
fn note_changes(
    out: &mut Installation,
    name: &str,
    folder: &Path,
    checkout: &GitCheckout,
    skip: &(dyn Fn(&str) -> bool + Sync),
    options: &ReadingOptions,
) {
    let shown = escape_text(name);
    let what = match name {
        "comfyui" => name.to_string(),
        _ => format!("node {shown}"),
    };
    let commit = checkout.commit.to_string();
    let commit = short_commit(&commit);
    let changes = match checkout.compare(folder, skip) {
        Ok(changes) => changes,
        Err(p) => {
            return out.adopted.lose(
                format!(
                    "{what}: whether its files are those of commit {commit} is not known: {}",
                    p.message
                ),
                "compare it by hand, with `git status`",
            );
        }
    };
    if changes.is_empty() {
        return;
    }
    let mut remedy = match &options.patches {
        Some(dir) => format!(
            "{} has the changes; commit them to a repository of yours and write its address as `repo`",
            dir.join(format!("{name}.patch")).display()
        ),
        None => {
            "`comfy init --from … --patches DIR` writes the changes as a patch; commit them to a \
                 repository of yours and write its address as `repo`"
                .into()
        }
    };
    if name != "comfyui" {
        remedy += &format!(
            "; or write path = \"{}\" instead of `repo` and `ref`, which installs the folder as it is",
            folder.display()
        );
    }
    out.adopted.lose(
        format!(
            "{what}: it differs from commit {commit}: {}",
            words_for(&changes)
        ),
        remedy,
    );
    if options.patches.is_some()
        && let Ok(patch) = checkout.patch(folder, &changes)
    {
        out.patches.push((format!("{name}.patch"), patch));
    }
}

/// `2 files changed (a.py, b.py), 1 file added (c.py, 3 kB)`
fn words_for(changes: &CheckoutChanges) -> String {
    let mut parts = Vec::new();
    for (paths, verb) in [
        (&changes.modified, "changed"),
        (&changes.deleted, "removed"),
    ] {
        if !paths.is_empty() {
            parts.push(format!(
                "{} {verb} ({})",
                count_of(paths.len(), "file"),
                some_of(paths)
            ));
        }
    }
    if !changes.added.is_empty() {
        let paths: Vec<String> = changes.added.iter().map(|(p, _)| p.clone()).collect();
        let size: u64 = changes.added.iter().map(|(_, n)| n).sum();
        parts.push(format!(
            "{} added ({}; {})",
            count_of(paths.len(), "file"),
            some_of(&paths),
            format_bytes(size)
        ));
    }
    parts.join(", ")
}

fn some_of(paths: &[String]) -> String {
    let some: Vec<String> = paths.iter().take(SHOWN).map(|p| escape_text(p)).collect();
    let more = paths.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", some.join(", "))
}
