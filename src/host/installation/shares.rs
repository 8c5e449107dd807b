//! The owner's folders of an installation: models, also elsewhere, pictures and workflows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adopt::extra_model_paths::{self, ModelSection};
use crate::adopt::{Adopted, AdoptedShare};
use crate::host::env;
use crate::host::fs::read_regular;
use crate::host::machine::operating_system;
use crate::manifest::{MODELS, ShareAccess, ShareRole, names, reserved_paths};
use crate::text::escape_text;

/// ComfyUI's own folders: name of the share, folder, what the sandbox user may do there.
const OWN: &[(&str, &str, ShareAccess)] = &[
    (MODELS, "models", ShareAccess::Read),
    ("input", "input", ShareAccess::Write),
    ("output", "output", ShareAccess::Write),
    ("workflows", "user/default/workflows", ShareAccess::Write),
];

/// Where else models are, beside ComfyUI's main.py.
const EXTRA: &str = "extra_model_paths.yaml";

/// Adds the shares; returns the sections of extra_model_paths.yaml with the folders that they begin
/// at.
pub(super) fn read_shares(out: &mut Adopted, folder: &Path) -> Vec<(PathBuf, ModelSection)> {
    for (name, mount, access) in OWN {
        let path = folder.join(mount);
        if path.is_dir() {
            if let Some(why) = why_no_share(&clean(&path)) {
                let shown = escape_text(&path.to_string_lossy());
                out.lose(
                    format!("{shown} is a link to a folder that {why}"),
                    "put a folder there, and run `comfy init --from` again",
                );
                continue;
            }
            out.shares.push(AdoptedShare {
                name: (*name).into(),
                path: path.to_string_lossy().into_owned(),
                role: ShareRole::Mount((*mount).into()),
                access: *access,
                adopted: true,
            });
        }
    }
    let users = std::fs::read_dir(folder.join("user")).into_iter().flatten();
    for user in users.flatten().filter(|u| u.path().is_dir()) {
        let name = user.file_name().to_string_lossy().into_owned();
        if name.starts_with('_') || name.starts_with('.') || name == "default" {
            continue;
        }
        out.lose(
            format!(
                "user/{}: settings and workflows of another profile",
                escape_text(&name)
            ),
            "add a share with mount = \"user/…/workflows\", if ComfyUI is to use it",
        );
    }
    if folder.join("user/default/comfy.settings.json").exists() {
        out.lose(
            "user/default: the settings of ComfyUI's page",
            "after the first `comfy apply`, copy comfy.settings.json to user/default/ below the \
             instance's state (`comfy status` names it)",
        );
    }
    let file = folder.join(EXTRA);
    if !file.exists() {
        return Vec::new();
    }
    let text = read_regular(&file).and_then(|t| extra_model_paths::read_sections(&t));
    match text {
        Ok(sections) => sections
            .into_iter()
            .map(|s| {
                let base = base_of(folder, &s);
                add_section(out, &base, &s);
                (base, s)
            })
            .collect(),
        Err(p) => {
            out.lose(
                format!("{EXTRA} cannot be read: {}", p.message),
                "declare its folders as shares: [shares.NAME] models = { checkpoints = \"FOLDER\" }",
            );
            Vec::new()
        }
    }
}

/// The folder that a section begins at: ComfyUI expands `~` and `$NAME` there.
fn base_of(folder: &Path, section: &ModelSection) -> PathBuf {
    let Some(written) = &section.base_path else {
        return folder.to_path_buf();
    };
    // Only what is a folder: a variable may hold a secret.
    let value = |name: &str| {
        let value = env::var(name.trim_matches(['{', '}'])).map(PathBuf::from)?;
        (value.is_absolute() && value.is_dir()).then_some(value)
    };
    let variable = written.strip_prefix('$').and_then(|w| {
        let (name, rest) = w.split_once('/').unwrap_or((w, ""));
        Some(value(name)?.join(rest))
    });
    let home = written
        .strip_prefix("~/")
        .and_then(|rest| Some(env::home_dir()?.join(rest)));
    let expanded = home.or(variable).unwrap_or_else(|| written.into());
    clean(&folder.join(expanded))
}

/// Without `.` and `..`, and with the real folder where there is one.
fn clean(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    crate::host::fs::clean_path(path)
}

fn add_section(out: &mut Adopted, base: &Path, section: &ModelSection) {
    let shown = escape_text(&section.name);
    if section.is_default {
        out.lose(
            format!("{EXTRA}, section {shown}: is_default, so that ComfyUI saves its models there"),
            "nothing: comfy fetches models into the share that [models] names",
        );
    }
    // Those below the base are one share; each of the others is one of its own.
    let mut inside: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut outside: Vec<(String, PathBuf)> = Vec::new();
    for (kind, folders) in &section.kinds {
        for folder in folders {
            let path = clean(&base.join(folder));
            if !path.is_dir() {
                out.lose(
                    format!("{EXTRA}, section {shown}: {} is not there", path.display()),
                    "if it is on a volume, mount it and run `comfy init --from` again; else nothing",
                );
                continue;
            }
            if let Some(why) = why_no_share(&path) {
                out.lose(
                    format!(
                        "{EXTRA}, section {shown}: {kind} = {} {why}: it is not adopted",
                        escape_text(&path.to_string_lossy())
                    ),
                    "move the models into a folder of their own, and declare it: [shares.NAME] models = \
                     { checkpoints = \"FOLDER\" }",
                );
                continue;
            }
            let below = path.strip_prefix(base).ok().and_then(Path::to_str);
            match below.filter(|_| section.base_path.is_some()) {
                Some("") => inside.entry(kind.clone()).or_default().push(".".into()),
                Some(below) => inside.entry(kind.clone()).or_default().push(below.into()),
                None => outside.push((kind.clone(), path)),
            }
        }
    }
    if !inside.is_empty() {
        if overlaps(&out.shares, base) || why_no_share(base).is_some() {
            let each = inside.iter().flat_map(|(kind, folders)| {
                folders.iter().map(|f| (kind.clone(), clean(&base.join(f))))
            });
            outside.extend(each.collect::<Vec<_>>());
        } else {
            add_share(out, &section.name, base, inside);
        }
    }
    for (kind, path) in outside {
        if overlaps(&out.shares, &path) {
            out.lose(
                format!(
                    "{EXTRA}, section {shown}: {kind} = {} is in a share that is there already",
                    path.display()
                ),
                "nothing if ComfyUI finds its models there; else add the kind to that share's \
                 `models`",
            );
            continue;
        }
        let name = format!("{}-{kind}", section.name);
        add_share(
            out,
            &name,
            &path,
            BTreeMap::from([(kind, vec![".".into()])]),
        );
    }
}

/// Why a folder cannot be a share; its text is as unreviewed as the nodes.
fn why_no_share(path: &Path) -> Option<&'static str> {
    let os = operating_system();
    let home = env::home_dir().map(|h| clean(&h)).unwrap_or_default();
    let homes = Path::new(os.homes());
    let is_home = |p: &Path| p.parent().is_some_and(|above| os.is_same(above, homes));
    // Root reads the homes of others.
    let home_around = path.ancestors().find(|p| is_home(p)).unwrap_or(&home);
    if path.parent().is_none() {
        Some("is the root of the file system")
    } else if os.lies_in(&home, path) || is_home(path) || os.is_same(path, homes) {
        Some("is a home, or contains one")
    } else {
        reserved_paths::why_reserved(os, &home, path)
            .or_else(|| reserved_paths::why_reserved(os, home_around, path))
    }
}

fn overlaps(shares: &[AdoptedShare], path: &Path) -> bool {
    shares.iter().any(|s| {
        let other = clean(Path::new(&s.path));
        other.starts_with(path) || path.starts_with(&other)
    })
}

fn add_share(out: &mut Adopted, name: &str, path: &Path, kinds: BTreeMap<String, Vec<String>>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '-' })
        .take(50)
        .collect();
    let name = name.trim_start_matches('-');
    let name = if names::check_folder(name).is_ok() {
        name
    } else {
        "extra"
    };
    let is_taken = |n: &str| {
        out.shares
            .iter()
            .any(|s| names::folded_name(&s.name) == names::folded_name(n))
    };
    let mut unique = name.to_string();
    let mut n = 2;
    while is_taken(&unique) {
        unique = format!("{name}-{n}");
        n += 1;
    }
    out.shares.push(AdoptedShare {
        name: unique,
        path: path.to_string_lossy().into_owned(),
        role: ShareRole::Models(kinds),
        access: ShareAccess::Read,
        adopted: true,
    });
}
