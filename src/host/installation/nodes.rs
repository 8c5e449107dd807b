//! The nodes of an installation: checkouts, packs of the registry, folders and single files.

use std::path::{Path, PathBuf};

use super::{Installation, ReadingOptions, note_changes, pin_of};
use crate::adopt::extra_model_paths::ModelSection;
use crate::adopt::manager_snapshot::OWN_FILE;
use crate::adopt::{AdoptedSource, registry_pack};
use crate::host::fs::read_regular;
use crate::host::git::checkout;
use crate::problem::{Context, Result};
use crate::text::escape_text;

/// Where ComfyUI-Manager keeps nodes that are switched off.
const DISABLED: &str = ".disabled";

/// Reads every node: those in custom_nodes/, and in the folders that extra_model_paths.yaml names.
pub(super) fn read_nodes(
    out: &mut Installation,
    folder: &Path,
    sections: &[(PathBuf, ModelSection)],
    options: &ReadingOptions,
) -> Result<()> {
    let own = folder.join("custom_nodes");
    let elsewhere = sections
        .iter()
        .flat_map(|(base, s)| s.nodes.iter().map(|n| base.join(n)));
    let folders: Vec<PathBuf> = std::iter::once(own.clone()).chain(elsewhere).collect();
    for nodes in &folders {
        if *nodes != own && !nodes.is_dir() {
            out.adopted.lose(
                format!("the folder of nodes {} is not there", nodes.display()),
                "if it is on a volume, mount it and run `comfy init --from` again",
            );
            continue;
        }
        // Its text is as unreviewed as the nodes: it could name any folder of the owner's.
        if !nodes.starts_with(folder) {
            out.adopted.lose(
                format!(
                    "extra_model_paths.yaml names {} as a folder of nodes, outside of the installation",
                    escape_text(&nodes.to_string_lossy())
                ),
                "for each node in it that you want: comfy add node FOLDER",
            );
            continue;
        }
        read_folder(out, nodes, true, options)?;
        let disabled = nodes.join(DISABLED);
        if disabled.is_dir() {
            read_folder(out, &disabled, false, options)?;
        }
    }
    Ok(())
}

fn read_folder(
    out: &mut Installation,
    folder: &Path,
    enabled: bool,
    options: &ReadingOptions,
) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<std::io::Result<_>>()
        .with_context(|| format!("read {}", folder.display()))?;
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "__pycache__" {
            continue;
        }
        let (bare, on) = match name.strip_suffix(DISABLED) {
            Some(bare) => (bare, false),
            None => (&*name, enabled),
        };
        if path.is_dir() {
            // `NAME@1_0_5` and `NAME@nightly` are ComfyUI-Manager's names of what it switched off.
            let bare = if on {
                bare
            } else {
                bare.split('@').next().unwrap_or(bare)
            };
            read_node(out, &path, bare, on, options);
        } else if bare.ends_with(".py") && bare != OWN_FILE {
            out.adopted.lose(
                format!("node {}: it is a single file", escape_text(bare)),
                "move it into a folder of its own, as __init__.py, and add that folder",
            );
        }
    }
    Ok(())
}

fn read_node(
    out: &mut Installation,
    path: &Path,
    name: &str,
    enabled: bool,
    options: &ReadingOptions,
) {
    let shown = escape_text(name);
    let what = format!("node {shown}");
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let real = real.to_string_lossy().into_owned();
    let add = |out: &mut Installation, source: AdoptedSource| {
        let before = out.adopted.nodes.len();
        out.adopted.add_node(name, source, enabled);
        if let Some(node) = out.adopted.nodes.get_mut(before) {
            node.folder = Some(real.clone());
        }
    };
    let own_folder = || AdoptedSource::Folder(real.clone());
    match checkout::read_checkout(path) {
        Ok(Some(checkout)) => {
            match pin_of(&what, &checkout) {
                Ok(pin) => {
                    add(out, AdoptedSource::Git(pin));
                    note_changes(out, name, path, &checkout, &|_| false, options);
                }
                Err(loss) => {
                    out.adopted.lose(
                        format!("{}; it is adopted as the folder that it is", loss.what),
                        "nothing on this machine; for others, publish it and write `repo` and `ref` instead \
                         of `path`",
                    );
                    add(out, own_folder());
                }
            }
            return;
        }
        Ok(None) => {}
        Err(p) => {
            out.adopted.lose(
                format!(
                    "{what}: its commit is not known ({}); it is adopted as the folder that it is",
                    p.message
                ),
                "nothing; or clone it again and write `repo` and `ref` instead of `path`",
            );
            return add(out, own_folder());
        }
    }
    let pyproject = read_regular(&path.join("pyproject.toml")).unwrap_or_default();
    let identity = registry_pack::read_identity(&pyproject);
    let tracking = read_regular(&path.join(registry_pack::TRACKING)).ok();
    match identity.filter(|_| tracking.is_some()) {
        Some((id, version)) => {
            out.adopted.add_pack(name, &id, version.as_deref(), enabled);
            note_foreign_files(out, path, &what, &tracking.unwrap_or_default());
        }
        None if is_code(path) => add(out, own_folder()),
        // A folder without Python is no node: pictures, a list of workflows.
        None => {}
    }
}

fn is_code(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .take(10_000)
        .any(|e| e.path().extension().is_some_and(|x| x == "py"))
}

/// Tells which files of a pack the registry's archive did not have, and which are gone.
fn note_foreign_files(out: &mut Installation, path: &Path, what: &str, tracking: &str) {
    let known = registry_pack::read_tracking(tracking);
    let gone: Vec<String> = known
        .iter()
        .filter(|f| path.join(f).symlink_metadata().is_err())
        .map(|f| (*f).to_string())
        .collect();
    let set: std::collections::BTreeSet<&str> = known.iter().copied().collect();
    let is_known = |p: &str| set.contains(p) || p == registry_pack::TRACKING;
    let Ok(added) = checkout::files_beside(path, &is_known) else {
        return;
    };
    let changes = checkout::CheckoutChanges {
        modified: Vec::new(),
        deleted: gone,
        added,
    };
    if !changes.is_empty() {
        out.adopted.lose(
            format!(
                "{what}: it differs from what was unpacked: {}",
                super::words_for(&changes)
            ),
            "copy the files that you need by hand; what a node writes belongs into `writable`",
        );
    }
}
