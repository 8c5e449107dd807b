//! What every command begins with: the manifest, its owner, and the lock.

use std::path::{Path, PathBuf};

use bytestring::ByteString;

use super::desired::{InstancePaths, MachineContext, PrimaryUser};
use super::lock::{self, Lock};
use super::manifest::{IsolationMode, Manifest};
use super::plan::Desired;
use super::problem::{Context, Problem, ProblemKind, Result};
use super::text::{did_you_mean, escape_text};
use crate::host::{env, fs, git, machine};

/// The file name of the manifest.
pub(crate) const MANIFEST: &str = "comfy.toml";

/// The options that select comfy.toml and its section for a machine.
#[derive(clap::Args, Clone)]
pub(crate) struct ProjectArgs {
    /// The folder of comfy.toml [default: the nearest parent folder with one, else the user's
    /// config folder]
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,
    /// Use the [hosts.NAME] section of this machine [default: the short host name]
    #[arg(long, value_name = "NAME", global = true)]
    pub host: Option<String>,
}

pub(crate) struct ComfyProject {
    pub dir: PathBuf,
    pub hostname: String,
    pub manifest: Manifest,
    pub lock: Option<(Lock, ByteString)>,
    /// Where comfy.lock is, or would be.
    pub lock_path: PathBuf,
}

/// Returns the folder of the manifest.
///
/// # Errors
/// There is no manifest.
pub(crate) fn manifest_folder(args: &ProjectArgs) -> Result<PathBuf> {
    let here = std::env::current_dir().context("find the current folder")?;
    if let Some(dir) = &args.dir {
        let mut dir = here.join(dir);
        // The file itself, as other tools take it.
        if dir.file_name().is_some_and(|name| name == MANIFEST) && dir.is_file() {
            dir.pop();
        }
        let dir = dir
            .canonicalize()
            .with_context(|| format!("open {}", dir.display()))?;
        return if dir.join(MANIFEST).exists() {
            Ok(dir)
        } else {
            Err(
                Problem::new(format!("{} does not contain a comfy.toml", dir.display()))
                    .with_hint("give its folder with -C, or create one with `comfy init`")
                    .of_kind(ProblemKind::NoManifest),
            )
        };
    }
    if let Some(found) = here.ancestors().find(|d| d.join(MANIFEST).exists()) {
        return Ok(found.to_path_buf());
    }
    match env::config_home().filter(|d| d.join(MANIFEST).exists()) {
        Some(dir) => Ok(dir),
        None => Err(Problem::new(format!(
            "no comfy.toml in {} or a folder above it",
            here.display()
        ))
        .with_hint("`comfy init` creates one; `comfy demo` shows the whole cycle without one")
        .of_kind(ProblemKind::NoManifest)),
    }
}

/// Returns the path of comfy.lock: beside comfy.toml, or, where that is a link, beside the real one.
/// Dotfile managers make such links, and only for files that they know.
pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    let beside = dir.join(lock::FILE);
    if beside.symlink_metadata().is_ok() {
        return beside;
    }
    // Whose links these are is checked when comfy.toml is read.
    match dir.join(MANIFEST).canonicalize() {
        Ok(real) => real.with_file_name(lock::FILE),
        Err(_) => beside,
    }
}

impl ComfyProject {
    /// # Errors
    /// There is no manifest, it or the lock has a mistake, or it does not know the host.
    pub(crate) fn open(args: &impl AsRef<ProjectArgs>) -> Result<ComfyProject> {
        let args = args.as_ref();
        let dir = manifest_folder(args)?;
        let hostname = args.host.clone().unwrap_or_else(machine::short_hostname);
        let project = ComfyProject::for_host(&dir, &hostname)?;
        let hosts = &project.manifest.hosts;
        // A host given by name must exist; this machine itself needs no section.
        let asked = args
            .host
            .as_ref()
            .filter(|h| !h.eq_ignore_ascii_case(&machine::short_hostname()));
        if let Some(name) = asked.filter(|n| !hosts.iter().any(|h| h.eq_ignore_ascii_case(n))) {
            let p = Problem::new(format!(
                "--host {}: comfy.toml has no [hosts.{0}]",
                escape_text(name)
            ));
            return Err(match did_you_mean(name, hosts.iter().map(String::as_str)) {
                Some(near) => p.with_hint(format!("did you mean `{}`?", escape_text(near))),
                None if hosts.is_empty() => {
                    p.with_hint("comfy.toml has no [hosts.NAME] section at all: omit --host")
                }
                None => p.with_hint(format!(
                    "comfy.toml has: {}",
                    escape_text(&hosts.join(", "))
                )),
            });
        }
        Ok(project)
    }

    /// Opens the project for the machine of that name, whether or not it has its own section.
    ///
    /// # Errors
    /// As [`ComfyProject::open`].
    pub(crate) fn for_host(dir: &Path, hostname: &str) -> Result<ComfyProject> {
        ComfyProject::load_files(dir, hostname, &[nix::unistd::geteuid().as_raw()])
    }

    fn load_files(dir: &Path, hostname: &str, who: &[u32]) -> Result<ComfyProject> {
        let path = dir.join(MANIFEST);
        let root = nix::unistd::geteuid().is_root();
        // Under sudo, the files must be the caller's or root's, whatever they say themselves.
        let caller = env::var("SUDO_UID")
            .and_then(|u| u.parse::<u32>().ok())
            .filter(|_| root);
        let mut owners: Vec<u32> = caller.iter().chain(who).copied().chain([0]).collect();
        // Only root also reads for others: whose files are acceptable is known once the manifest
        // gives the primary user.
        let known = !root || caller.is_some();
        let at = lock_path(dir);
        let read = |path: &Path| {
            if known {
                fs::read_trusted(path, &owners)
            } else {
                fs::read_regular(path)
            }
            .map(ByteString::from)
        };
        // Both are read in parallel: with twenty thousand models in each, this takes most of a
        // plan's time.
        let (manifest, locked) = std::thread::scope(|s| {
            let manifest = s.spawn(|| Manifest::parse(&path, &read(&path)?, hostname));
            let there = !at
                .symlink_metadata()
                .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
            let locked = there.then(|| read(&at).map(|text| (Lock::parse(&at, &text), text)));
            (manifest.join(), locked)
        });
        let manifest = manifest.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let locked = locked.transpose()?;
        if !known {
            let named = machine::primary_owner(
                manifest.host.primary_user.as_deref(),
                manifest.host.isolation == IsolationMode::Account,
            )
            .ok()
            .map(|o| o.uid);
            owners.splice(0..0, named);
            for (path, text) in [(&path, &manifest.source.text)]
                .into_iter()
                .chain(locked.as_ref().map(|(_, text)| (&at, text)))
            {
                if !fs::is_trusted(path, &owners, text)? {
                    return Err(Problem::new(format!(
                        "{} changed while it was being read",
                        path.display()
                    ))
                    .with_hint("run it again"));
                }
            }
        }
        let lock = locked
            .map(|(parsed, text)| Ok::<_, Problem>((parsed?, text)))
            .transpose()?;
        Ok(ComfyProject {
            dir: dir.to_path_buf(),
            hostname: hostname.into(),
            manifest,
            lock,
            lock_path: at,
        })
    }

    /// The lock and its text.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn locked(&self) -> Result<&(Lock, ByteString)> {
        self.lock.as_ref().ok_or_else(|| {
            Problem::new(format!(
                "{} does not contain a comfy.lock",
                self.dir.display()
            ))
            .with_hint("run `comfy lock`")
            .of_kind(ProblemKind::NoLock)
        })
    }

    pub(crate) fn is_isolated(&self) -> bool {
        self.manifest.host.isolation == IsolationMode::Account
    }

    /// # Errors
    /// The account does not exist, or cannot be an owner.
    pub(crate) fn owner(&self) -> Result<PrimaryUser> {
        machine::primary_owner(
            self.manifest.host.primary_user.as_deref(),
            self.is_isolated(),
        )
    }

    /// What manifest and lock amount to on this machine, and warnings about the lock, which a
    /// command prints once.
    ///
    /// # Errors
    /// There is no lock, the lock does not cover the manifest, or paths overlap.
    pub(crate) fn desired_state(&self) -> Result<(Desired, Vec<String>)> {
        let (lock, text) = self.locked()?;
        let cover = lock::coverage::check(&self.manifest, lock);
        if !cover.problems.is_empty() {
            return Err(Problem::from_many(cover.problems).about(ProblemKind::LockMismatch));
        }
        let desired = Desired::new(&self.manifest, lock, text, &self.machine_context()?)?;
        Ok((desired, cover.warnings))
    }

    /// Where the instance lies on this machine, whatever comfy.lock says.
    ///
    /// # Errors
    /// As [`ComfyProject::owner`].
    pub(crate) fn instance_paths(&self) -> Result<InstancePaths> {
        let context = self.machine_context()?;
        Ok(crate::desired::instance_paths(&self.manifest, &context))
    }

    fn machine_context(&self) -> Result<MachineContext> {
        let owner = self.owner()?;
        let found = self.dir.ancestors().find(|d| d.join(".git").exists());
        let repository = found.unwrap_or(&self.dir).to_path_buf();
        let data_home = data_home(&owner.home);
        Ok(MachineContext {
            hostname: self.hostname.clone(),
            owner,
            platform: machine::host_platform(),
            data_home,
            repository,
            in_repository: found.is_some(),
        })
    }
}

/// Changes comfy.toml by `edit`, through a link of the owner's; returns whether it differs now. It is
/// written only if it follows the rules for any comfy.toml, or breaks fewer of them than before.
///
/// # Errors
/// What `edit` or the rules say, and then nothing is written.
pub(crate) fn edit_manifest(
    args: &impl AsRef<ProjectArgs>,
    edit: impl FnOnce(&str) -> Result<String>,
) -> Result<bool> {
    let args = args.as_ref();
    let path = manifest_folder(args)?.join(MANIFEST);
    let host = args.host.clone().unwrap_or_else(machine::short_hostname);
    let me = nix::unistd::geteuid().as_raw();
    let old = ByteString::from(fs::read_regular(&path)?);
    let new = ByteString::from(edit(&old)?);
    if new == old {
        return Ok(false);
    }
    let mistakes = |text: &ByteString| match Manifest::parse(&path, text, &host) {
        Ok(_) => (0, None),
        Err(p) => (1 + p.also.len(), Some(p)),
    };
    if let (now, Some(problem)) = mistakes(&new)
        && now >= mistakes(&old).0
    {
        return Err(problem
            .with_prefix("with this change: ")
            .with_hint("comfy.toml is as it was"));
    }
    let real = fs::real_path(&path, me).map_err(Problem::from)?;
    fs::edit::replace_file(&real, new.as_bytes())
        .with_context(|| format!("write {}", path.display()))?;
    Ok(true)
}

/// Returns the user's data folder for comfy, the prefix under isolation "none".
pub(crate) fn data_home(home: &Path) -> PathBuf {
    let data = if crate::host::machine::operating_system().is_macos() {
        "Library/Application Support/comfy"
    } else {
        ".local/share/comfy"
    };
    env::var("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .map_or_else(|| home.join(data), |p| p.join("comfy"))
}

/// Returns the desired state as the root side reads it itself.
pub(crate) fn for_root(dir: &Path, host: &str) -> Result<Desired> {
    let project = ComfyProject::load_files(dir, host, &[])?;
    let sandbox = nix::unistd::User::from_name(&project.manifest.host.sandbox_user)
        .ok()
        .flatten()
        .map(|u| u.uid.as_raw());
    let sudo = env::var("SUDO_UID").and_then(|u| u.parse::<u32>().ok());
    if sudo.is_some() && sudo == sandbox {
        return Err(Problem::new("the sandbox user must not run comfy")
            .with_hint("remove it from sudoers: it could become root"));
    }
    project.desired_state().map(|(desired, _)| desired)
}

/// Returns the git store of `lock`, `update` and `outdated`: used as the caller, in the caller's
/// cache.
///
/// # Errors
/// The cache cannot be created, or the caller is root, who must not read third-party repositories.
pub(crate) fn git_store(project: &ComfyProject, offline: bool) -> Result<git::GitStore> {
    if nix::unistd::geteuid().is_root() && project.is_isolated() {
        let owner = project.owner()?.name;
        return Err(Problem::new(
            "do not run this as root: root must not read third-party repositories",
        )
        .with_hint(format!(
            "run it as {owner}: only `apply` needs root, and asks for it"
        )));
    }
    let home = project.owner()?.home;
    caller_git_store(home, offline)
}

/// The git store of whoever runs comfy, who may be root only under isolation "none"; `home` is the
/// owner's.
///
/// # Errors
/// The cache cannot be created.
pub(crate) fn caller_git_store(home: PathBuf, offline: bool) -> Result<git::GitStore> {
    let cache = env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set").with_hint("set HOME, or XDG_CACHE_HOME"))?;
    let store = cache.join("git");
    std::fs::create_dir_all(&store).with_context(|| format!("make {}", store.display()))?;
    let config = cache.join("gitconfig");
    fs::edit::write_file(&config, git::config_text().as_bytes(), 0o644, None)
        .with_context(|| format!("write {}", config.display()))?;
    Ok(git::GitStore {
        home: Some(home),
        program: env::git_program(false),
        net: env::net_env()?,
        store,
        offline,
        config,
    })
}
