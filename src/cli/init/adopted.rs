//! `comfy init --from`: the first comfy.toml and comfy.lock of an installation that is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytestring::ByteString;
use rayon::prelude::*;

use super::losses::{
    note_packages, note_registry_status, note_write_shares, print_summary, refused_node,
    without_place,
};
use super::{Caller, FirstFiles, InitArgs};
use crate::adopt::manifest_text::{LeftOut, ManifestChoices, write_manifest};
use crate::adopt::{Adopted, AdoptedModel, AdoptedShare, AdoptedSource, GitPin, Loss};
use crate::cli::lock::with_resolvers;
use crate::host::fs::clean_path;
use crate::host::git::GitStore;
use crate::host::git::ref_membership::RefMembership;
use crate::host::installation::{self, Installation, ReadingOptions};
use crate::host::models::resolver;
use crate::host::{fs, machine};
use crate::lock::Lock;
use crate::lock::resolve::given::{GivenLock, GivenPins, resolve_given};
use crate::manifest::names::check_relative;
use crate::manifest::{IsolationMode, LockPlatform, Manifest, ShareAccess, ShareRole, node_advice};
use crate::plan::model_summary::is_model;
use crate::plan::observed::FileType;
use crate::problem::{Context, Problem, Result};
use crate::project::{self, ComfyProject, MANIFEST};
use crate::render;
use crate::text::escape_text;
use crate::tree::ObjectId;

/// Where the first files go, and for whom.
pub(super) struct InitTarget<'a> {
    pub dir: &'a Path,
    pub caller: &'a Caller,
    pub isolation: IsolationMode,
    /// The folder of new shares.
    pub shared_root: &'a str,
}

/// Reads what is at `from` and makes both files; prints what they do not reproduce.
///
/// # Errors
/// It cannot be read, or ComfyUI cannot be had at its commit.
pub(super) fn adopt_installation(
    from: &Path,
    args: &InitArgs,
    target: &InitTarget,
) -> Result<FirstFiles> {
    if target.isolation == IsolationMode::Account && nix::unistd::geteuid().is_root() {
        return Err(Problem::new(
            "do not run this as root: root must not read third-party repositories",
        )
        .with_hint("run it as the user whose installation it is")
        .with_hint("`--isolation none` is for machines where ComfyUI runs as root anyway"));
    }
    // Who may not use it is told before anything is read.
    let home = machine::primary_owner(target.caller.primary_user.as_deref(), false)?.home;
    let here = std::env::current_dir().context("find the current folder")?;
    let below_here = |path: &Option<PathBuf>| path.as_ref().map(|p| clean_path(&here.join(p)));
    let options = ReadingOptions {
        venv: below_here(&args.venv),
        patches: below_here(&args.patches),
    };
    let Installation {
        mut adopted,
        patches,
    } = installation::read_installation(&clean_path(&here.join(from)), &options)?;
    if adopted.core.is_none() {
        adopted.core = GitPin::of_core(None).ok();
    }
    if adopted.shares.is_empty() {
        adopted.shares = first_shares(target.shared_root);
    }
    if target.isolation == IsolationMode::Account && !args.manage_shares {
        note_write_shares(&mut adopted);
    }
    let git = project::caller_git_store(home, false)?;
    choose_refs(&git, &mut adopted);
    if args.no_models {
        lose_models(&mut adopted);
    } else {
        add_models_on_disk(&mut adopted)?;
    }
    let platform = machine::host_platform();
    let platform = LockPlatform::of_machine(platform.os, &platform.machine);
    let mut draft = Draft {
        origin: clean_path(&here.join(from)).display().to_string(),
        adopted,
        target,
        platform: platform.map_or("linux-x86_64", LockPlatform::word),
        manage_shares: args.manage_shares,
        requirements: Vec::new(),
        overrides: Vec::new(),
        left_out_nodes: BTreeSet::new(),
        left_out_models: BTreeSet::new(),
    };
    let lock = draft.lock()?;
    write_patches(options.patches.as_deref(), &patches, target.caller.ids)?;
    let text = draft.text();
    let manifest = draft.manifest(&text)?;
    print_summary(&draft.adopted, &lock);
    for advice in node_advice::advice_for(&manifest, manifest.nodes.keys().map(String::as_str)) {
        render::print_note(&format!("hint: {advice}"));
    }
    Ok(FirstFiles {
        manifest: text,
        lock: Some(lock.render()),
    })
}

/// comfy.toml while it is being made.
struct Draft<'a> {
    origin: String,
    adopted: Adopted,
    target: &'a InitTarget<'a>,
    platform: &'a str,
    manage_shares: bool,
    requirements: Vec<String>,
    overrides: Vec<String>,
    left_out_nodes: BTreeSet<String>,
    left_out_models: BTreeSet<String>,
}

impl Draft<'_> {
    fn text(&self) -> String {
        let choices = ManifestChoices {
            origin: &self.origin,
            primary_user: self.target.caller.primary_user.as_deref(),
            isolation: self.target.isolation,
            platform: self.platform,
            manage_shares: self.manage_shares,
            requirements: &self.requirements,
            overrides: &self.overrides,
        };
        let left_out = LeftOut {
            nodes: self.left_out_nodes.iter().map(String::as_str).collect(),
            models: self.left_out_models.iter().map(String::as_str).collect(),
        };
        write_manifest(&self.adopted, &choices, &left_out)
    }

    fn manifest(&self, text: &str) -> Result<Manifest> {
        let path = self.target.dir.join(MANIFEST);
        Manifest::parse(&path, &ByteString::from(text), &machine::short_hostname())
            .map_err(|p| p.with_prefix("the comfy.toml that was made is refused: "))
    }

    /// Locks it at the adopted pins; what cannot be had is left out and told.
    fn lock(&mut self) -> Result<Lock> {
        let manifest = self.manifest(&self.text())?;
        let project = ComfyProject {
            dir: self.target.dir.to_path_buf(),
            hostname: machine::short_hostname(),
            manifest,
            lock: None,
            lock_path: project::lock_path(self.target.dir),
        };
        crate::cli::announce_isolation(&project);
        let given = given_pins(&self.adopted);
        let found = with_resolvers(&project, false, |ask, report| {
            resolve_given(&project.manifest, &given, ask, report)
        })
        // There is no comfy.toml yet that a place would be in.
        .map_err(|p| Problem {
            message: without_place(&p),
            ..p
        })?;
        for r in &found.remarks {
            render::print_warning(r);
        }
        Ok(self.take(found))
    }

    fn note_foreign_commits(&mut self) {
        let core = self.adopted.core.iter().map(|pin| ("comfyui".into(), pin));
        let nodes = self.adopted.nodes.iter();
        let nodes = nodes.filter(|n| !self.left_out_nodes.contains(&n.name));
        let nodes = nodes.filter_map(|n| match &n.source {
            AdoptedSource::Git(pin) => Some((format!("node {}", n.name), pin)),
            AdoptedSource::Registry { .. } | AdoptedSource::Folder(_) => None,
        });
        let found = core.chain(nodes);
        let mut losses = found
            .filter_map(|(what, pin)| foreign_commit(&what, pin))
            .collect();
        self.adopted.losses.append(&mut losses);
    }

    /// Takes over what was locked, and tells the rest.
    fn take(&mut self, found: GivenLock) -> Lock {
        let GivenLock {
            lock,
            refused_nodes,
            refused_models,
            refused_packages,
            packages_as_of,
            settings,
            ..
        } = found;
        for (name, p) in refused_nodes {
            let folder = self.adopted.nodes.iter().find(|n| n.name == name);
            let folder = folder.and_then(|n| n.folder.clone());
            let loss = refused_node(&name, &p, folder.as_deref());
            self.adopted.losses.push(loss);
            self.left_out_nodes.insert(name);
        }
        for (path, p) in refused_models {
            self.adopted.losses.push(Loss::new(
                without_place(&p),
                "its section is a comment in comfy.toml: put the file there or correct `source`, \
                 uncomment it and run `comfy lock`",
            ));
            self.left_out_models.insert(path);
        }
        self.note_foreign_commits();
        note_registry_status(&mut self.adopted, &lock);
        if let Some(settings) = settings {
            for told in settings.told {
                self.adopted.losses.push(Loss::new(
                    format!("Python packages: {told}"),
                    "comfy.toml has what settles it: `overrides` and `ignore_requirements`",
                ));
            }
            (self.requirements, self.overrides) = (settings.requirements, settings.overrides);
            for node in &mut self.adopted.nodes {
                if let Some(ignored) = settings.ignored.get(&node.name) {
                    node.ignore_requirements.clone_from(ignored);
                }
            }
        }
        match refused_packages {
            Some(p) => {
                let mut remedy = p.hints.join("; ");
                if remedy.is_empty() {
                    remedy = "change comfy.toml".into();
                }
                self.adopted.losses.push(Loss::new(
                    format!("no Python package is locked: {}", p.message),
                    format!("{remedy}; then run `comfy lock`"),
                ));
            }
            None => note_packages(&mut self.adopted, &lock),
        }
        if let Some(day) = packages_as_of.filter(|_| lock.python.is_some()) {
            self.adopted.losses.push(Loss::new(
                format!(
                    "no versions of Python packages are known: comfy.lock has those of {}, when \
                     the newest of the commits was made",
                    day.format("%-d %B %Y")
                ),
                "nothing, if ComfyUI starts; an older `python.version` may have wheels that are \
                 missing, and `comfy update python` takes the newest packages",
            ));
        }
        lock
    }
}

fn given_pins(adopted: &Adopted) -> GivenPins {
    let commit = |source: &AdoptedSource| match source {
        AdoptedSource::Git(pin) => pin.commit,
        AdoptedSource::Registry { .. } | AdoptedSource::Folder(_) => None,
    };
    let nodes = adopted
        .nodes
        .iter()
        .filter_map(|n| Some((n.name.clone(), commit(&n.source)?)));
    let core = adopted.core.as_ref().and_then(|c| c.commit);
    GivenPins {
        commits: core
            .map(|c| ("comfyui".to_string(), c))
            .into_iter()
            .chain(nodes)
            .collect(),
        packages: adopted.packages.clone(),
        released_before: None,
    }
}

/// For each commit the ref that it is on, as the server says: that of the installation, else the
/// default branch, else the commit itself.
fn choose_refs(git: &GitStore, adopted: &mut Adopted) {
    let nodes = adopted
        .nodes
        .iter_mut()
        .filter_map(|n| match &mut n.source {
            AdoptedSource::Git(pin) => Some(pin),
            AdoptedSource::Registry { .. } | AdoptedSource::Folder(_) => None,
        });
    let mut pins: Vec<&mut GitPin> = adopted.core.iter_mut().chain(nodes).collect();
    pins.par_iter_mut().for_each(|pin| {
        let Some(commit) = pin.commit else { return };
        pin.git_ref = ref_with(git, pin, &commit);
    });
}

/// Tells of a commit that is on no branch that is known: a hub serves the commits of all forks at the
/// parent's address, and a snapshot can name one at an address that is trusted.
fn foreign_commit(what: &str, pin: &GitPin) -> Option<Loss> {
    let commit = pin.commit?.to_string();
    (pin.git_ref.as_ref() == Some(&commit)).then(|| {
        Loss::new(
            format!(
                "{what}: commit {commit} is not known to be on the default branch of {}: it may be of a \
                 fork",
                pin.repo
            ),
            "nothing, if you know the commit; else look at it, or write a branch or tag as `ref` and \
             run `comfy lock`",
        )
    })
}

fn ref_with(git: &GitStore, pin: &GitPin, commit: &ObjectId) -> Option<String> {
    let is_on = |name: &str| {
        let on = git.ref_membership(&pin.repo, name, commit);
        on == Some(RefMembership::On)
    };
    let named = pin.refs.iter().find(|name| is_on(name));
    match named {
        Some(name) => Some(name.clone()),
        None if is_on(crate::manifest::names::DEFAULT_REF) => None,
        None => Some(commit.to_string()),
    }
}

/// Every model that lies in the shares and that the format did not name, adopted where it is.
fn add_models_on_disk(adopted: &mut Adopted) -> Result<()> {
    let mut known: BTreeSet<String> = adopted.models.iter().map(|m| m.path.clone()).collect();
    let (mut models, mut losses) = (Vec::new(), Vec::new());
    for share in adopted.shares.iter().filter(|s| s.role.holds_models()) {
        let top = PathBuf::from(&share.path);
        if !top.is_absolute() {
            continue;
        }
        for (path, kind) in resolver::share_entries(&top)? {
            if !is_model(&path) || !share.role.shows_path(&path) {
                continue;
            }
            let shown = escape_text(&path);
            if kind == FileType::Link {
                losses.push(Loss::new(
                    format!("model \"{shown}\" of share {}: it is a link", share.name),
                    "declare the folder that it leads to as a share, or put the file itself there; \
                     comfy follows no link to a model",
                ));
            } else if path.contains('\u{fffd}') || check_relative(&path).is_err() {
                losses.push(Loss::new(
                    format!(
                        "model \"{shown}\" of share {}: its name cannot be declared",
                        share.name
                    ),
                    "rename it, then `comfy add model PATH`",
                ));
            } else if known.insert(path.clone()) {
                models.push(AdoptedModel {
                    path,
                    share: share.name.clone(),
                    source: None,
                    sha256: None,
                });
            } else {
                losses.push(Loss::new(
                    format!(
                        "model \"{shown}\" of share {}: another share has a model of that path",
                        share.name
                    ),
                    "nothing: ComfyUI takes the first that it finds; or rename one",
                ));
            }
        }
    }
    models.sort_by(|a: &AdoptedModel, b| (&a.share, &a.path).cmp(&(&b.share, &b.path)));
    adopted.models.extend(models);
    adopted.losses.extend(losses);
    Ok(())
}

/// What `--no-models` leaves out.
fn lose_models(adopted: &mut Adopted) {
    adopted.models.clear();
    adopted.lose(
        "models: none is pinned (--no-models)",
        "`comfy add model --all`, then `comfy lock`, which reads every one of them once",
    );
}

/// The shares of an installation that is only described.
fn first_shares(root: &str) -> Vec<AdoptedShare> {
    let share = |name: &str, mount: &str, access| AdoptedShare {
        name: name.into(),
        path: format!("{root}/{name}"),
        role: ShareRole::Mount(mount.into()),
        access,
        adopted: false,
    };
    vec![
        share("models", "models", ShareAccess::Read),
        share("input", "input", ShareAccess::Write),
        share("output", "output", ShareAccess::Write),
        share("workflows", "user/default/workflows", ShareAccess::Write),
    ]
}

fn write_patches(
    dir: Option<&Path>,
    patches: &[(String, String)],
    ids: Option<(u32, u32)>,
) -> Result<()> {
    let Some(dir) = dir.filter(|_| !patches.is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    for (name, text) in patches {
        // The name of a node's folder may be anything.
        let name: String = name.replace(['/', '\\'], "-");
        let path = dir.join(name);
        // What no repository has may be a password.
        fs::edit::write_file(&path, text.as_bytes(), 0o600, ids)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
