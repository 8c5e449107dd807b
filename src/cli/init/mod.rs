mod adopted;
mod losses;

use std::path::{Path, PathBuf};

use super::GlobalArgs;
use crate::host::machine::identity::{self, OtherProgram};
use crate::host::{env, fs};
use crate::lock;
use crate::manifest::IsolationMode;
use crate::manifest::starter::{StarterChoices, starter_text};
use crate::problem::{Context, Problem, Result};
use crate::project::MANIFEST;
use crate::render;

/// Write a commented comfy.toml: a starter, or that of an installation that is there
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy init                  here\n  comfy init -C \
        ~/dotfiles/comfy\n  comfy init --isolation none no second account and no root; nothing is \
        protected\n  comfy init --from ~/ComfyUI adopt an installation, with the same pins\n  comfy init \
        --from snapshot.json"
)]
pub(crate) struct InitArgs {
    /// Where to put the shared folders [default: outside your home, so that nothing in it is
    /// opened; with --isolation none: ~/comfy]
    #[arg(long, value_name = "DIR")]
    shares: Option<PathBuf>,
    /// Whether ComfyUI gets an account of its own [default: account]
    #[arg(long, value_name = "MODE", value_parser = ["account", "none"])]
    isolation: Option<String>,
    /// Adopt the installation of ComfyUI in this folder, or what this snapshot says, with the same
    /// pins; nothing of it is changed
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// Let comfy set groups and modes in the adopted folders [default: they are used as they are]
    #[arg(long, requires = "from")]
    manage_shares: bool,
    /// Pin no models: large libraries are read whole for it
    #[arg(long, requires = "from")]
    no_models: bool,
    /// Write changes that no repository has into this folder, as patches
    #[arg(long, value_name = "DIR", requires = "from")]
    patches: Option<PathBuf>,
    /// The virtual environment of the installation [default: venv or .venv in it or beside it]
    #[arg(long, value_name = "DIR", requires = "from")]
    venv: Option<PathBuf>,
}

pub(crate) fn run(global: &GlobalArgs, args: &InitArgs) -> Result<u8> {
    let here = std::env::current_dir().context("find the current folder")?;
    let dir = global
        .project
        .dir
        .as_ref()
        .map_or_else(|| here.clone(), |d| here.join(d));
    let path = dir.join(MANIFEST);
    for name in [MANIFEST, lock::FILE] {
        let there = dir.join(name);
        if there.symlink_metadata().is_ok() && (name == MANIFEST || args.from.is_some()) {
            return Err(Problem::new(format!("{} already exists", there.display()))
                .with_hint("edit it, or move it away first"));
        }
    }
    let made_folders = MadeFolders::make(&dir)?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("open {}", dir.display()))?;
    let caller = Caller::find()?;
    let isolation = match args.isolation.as_deref() {
        Some("none") => IsolationMode::None,
        None if caller.is_alone => IsolationMode::None,
        _ => IsolationMode::Account,
    };
    let shares = match &args.shares {
        None if isolation == IsolationMode::None && !nix::unistd::geteuid().is_root() => {
            "~/comfy".to_string()
        }
        None => default_shares().to_string(),
        // The owner's home, written as in comfy.toml.
        Some(p) if p.starts_with("~") => p.display().to_string(),
        Some(p) => fs::clean_path(&here.join(p)).display().to_string(),
    };
    let made = match &args.from {
        Some(from) => {
            let target = adopted::InitTarget {
                dir: &dir,
                caller: &caller,
                isolation,
                shared_root: &shares,
            };
            adopted::adopt_installation(from, args, &target)?
        }
        None => FirstFiles {
            manifest: starter_text(&StarterChoices {
                primary_user: caller.primary_user.as_deref(),
                isolation,
                shared_root: &shares,
            }),
            lock: None,
        },
    };
    let is_locked = made.lock.is_some();
    let files = [
        (SCHEMA, Some(crate::manifest::schema::schema_text())),
        (MANIFEST, Some(made.manifest)),
        (lock::FILE, made.lock),
    ];
    for (name, text) in files {
        let Some(text) = text else { continue };
        fs::edit::write_file(&dir.join(name), text.as_bytes(), 0o644, caller.ids)
            .with_context(|| format!("write {}", dir.join(name).display()))?;
    }
    made_folders.keep();
    caller.warn(isolation);
    if let Some(other) = identity::other_comfy() {
        render::print_warning(&other_program_text(&other));
    }
    render::print_note(&if is_locked {
        format!(
            "Wrote {} and comfy.lock. Read them, then run: comfy plan",
            path.display()
        )
    } else {
        format!(
            "Wrote {}. Read it, edit it, then run: comfy lock",
            path.display()
        )
    });
    Ok(0)
}

/// Folders that were made for the first files, and that go again if those are not written.
struct MadeFolders(Vec<PathBuf>);

impl MadeFolders {
    fn make(dir: &Path) -> Result<MadeFolders> {
        let is_missing = |d: &&Path| d.symlink_metadata().is_err();
        let missing = dir.ancestors().take_while(is_missing);
        let made = MadeFolders(missing.map(Path::to_path_buf).collect());
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(made)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        // One that is not empty stays.
        for dir in &self.0 {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// The texts of the first files.
struct FirstFiles {
    manifest: String,
    lock: Option<String>,
}

/// The schema that the starter names in its first line.
const SCHEMA: &str = "comfy.schema.json";

fn default_shares() -> &'static str {
    if crate::host::machine::operating_system().is_macos() {
        "/Users/Shared/comfy"
    } else {
        "/srv/comfy"
    }
}

/// Who writes the first comfy.toml.
struct Caller {
    primary_user: Option<String>,
    /// The owner of the file, if not whoever runs comfy.
    ids: Option<(u32, u32)>,
    /// Root, on a machine without an account of a person.
    is_alone: bool,
    /// Accounts of persons, if root does not say for whom it works.
    people: Vec<String>,
}

impl Caller {
    fn find() -> Result<Caller> {
        let me = nix::unistd::geteuid();
        let mut caller = Caller {
            primary_user: None,
            ids: None,
            is_alone: false,
            people: Vec::new(),
        };
        let sudo = env::var("SUDO_USER")
            .filter(|_| me.is_root())
            .and_then(|name| nix::unistd::User::from_name(&name).ok().flatten())
            .filter(|user| !user.uid.is_root());
        if let Some(user) = sudo {
            caller.ids = Some((user.uid.as_raw(), user.gid.as_raw()));
            caller.primary_user = Some(user.name);
        } else if me.is_root() {
            let people = identity::people();
            caller.is_alone = people.as_ref().is_some_and(Vec::is_empty);
            caller.people = people.unwrap_or_default();
            caller.primary_user = match &caller.people[..] {
                [] if caller.is_alone => Some("root".into()),
                [one] => Some(one.clone()),
                _ => None,
            };
        } else {
            caller.primary_user = Some(crate::host::machine::primary_owner(None, false)?.name);
        }
        Ok(caller)
    }

    fn warn(&self, isolation: IsolationMode) {
        if self.is_alone && isolation == IsolationMode::None {
            render::print_warning(
                "this machine has no account of a person, so ComfyUI runs as root (isolation = \
                 \"none\"): it and its nodes can do anything on this machine, and nothing is \
                 protected",
            );
        } else if isolation == IsolationMode::None && !self.people.is_empty() {
            let people = self.people.join(", ");
            let (named, who) = match &self.people[..] {
                [one] => (format!("the file names {one}"), one.as_str()),
                _ => (
                    format!("the file names nobody: set host.primary_user ({people})"),
                    "that account",
                ),
            };
            render::print_warning(&format!(
                "you are root, and isolation = \"none\" runs ComfyUI and every command as the primary \
                 user; {named}. Run comfy as {who}, without sudo; where ComfyUI is to run as root, \
                 write primary_user = \"root\""
            ));
        } else if let [one] = &self.people[..] {
            render::print_note(&format!(
                "You are root; the file names {one} as the primary user, who uses ComfyUI."
            ));
        } else if self.primary_user.is_none() {
            render::print_warning(&format!(
                "you are root, and no other account can be kept from root's files: set \
                 host.primary_user to the account that uses ComfyUI ({})",
                if self.people.is_empty() {
                    "a person's".into()
                } else {
                    self.people.join(", ")
                }
            ));
        }
    }
}

/// Returns what to say of another program called `comfy` in PATH.
pub(crate) fn other_program_text(other: &OtherProgram) -> String {
    let path = other.path.display();
    let keep = match &other.also_as {
        Some(name) => format!("it is also installed as `{name}`"),
        None => format!("call it as {path}"),
    };
    if other.comes_first {
        format!(
            "another program called comfy comes first in PATH: {path}. To keep both, put the folder \
             of this one ({}) first in PATH; {keep}",
            other.own_folder.display()
        )
    } else {
        format!(
            "another program called comfy is in PATH: {path}. This one comes first, which programs \
             that call the other one will notice; {keep}"
        )
    }
}
