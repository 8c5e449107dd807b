//! The instance that a command launches: the one of comfy.toml, or, if comfy.toml has a mistake, the
//! one that was applied.

use std::path::{Path, PathBuf};

use super::GlobalArgs;
use crate::apply::scope::{LoadedScope, RequestedScope};
use crate::desired::launch::LaunchSpec;
use crate::desired::{Desired, GenerationSpec, InstancePaths};
use crate::host::fs;
use crate::host::machine::HostMachine;
use crate::launch::applied::load_spec;
use crate::launch::client::{LaunchHandle, request_launch};
use crate::launch::import_log::LogContext;
use crate::launch::{LaunchAnswer, LaunchMode, LaunchRequest};
use crate::plan::look::Look;
use crate::problem::{Problem, ProblemKind, Result};
use crate::project::{self, ComfyProject, data_home, manifest_folder};
use crate::records::{self, running};
use crate::render;

pub(crate) struct LaunchTarget {
    /// The sandbox user, who names the instance.
    pub instance: String,
    pub paths: InstancePaths,
    pub is_isolated: bool,
    /// The uid of the owner.
    pub owner: u32,
    pub log_context: LogContext,
    /// The code that comfy.lock pins; `None` if comfy.toml or comfy.lock has a mistake.
    code: Option<GenerationSpec>,
}

impl LaunchTarget {
    /// Opens the instance that `global` names. A launch needs only what was applied, so a mistake
    /// in comfy.toml is a warning if the caller has exactly one applied instance.
    ///
    /// # Errors
    /// There is no comfy.toml; it has a mistake, and it is not certain which instance is meant.
    pub(crate) fn open(global: &GlobalArgs) -> Result<LaunchTarget> {
        manifest_folder(&global.project)?;
        LaunchTarget::open_applied(global)
    }

    /// The same for a command that needs of comfy.toml only which instance is meant: without one,
    /// the only one that the caller has applied, or the only one that is running.
    ///
    /// # Errors
    /// As [`LaunchTarget::open`], or the records of what runs cannot be read.
    pub(crate) fn open_applied(global: &GlobalArgs) -> Result<LaunchTarget> {
        let opened = ComfyProject::open(global).and_then(|project| {
            super::announce_isolation(&project);
            let desired = super::desired_state(&project)?;
            Ok(LaunchTarget::for_project(&project, &desired))
        });
        let target = opened.or_else(|p| {
            let spec = applied_instead(global, p)?;
            Ok::<_, Problem>(LaunchTarget {
                is_isolated: spec.account,
                instance: spec.user,
                owner: spec.owner,
                paths: spec.paths,
                log_context: LogContext::default(),
                code: None,
            })
        })?;
        running::ensure_readable(&target.paths)?;
        Ok(target)
    }

    pub(crate) fn for_project(project: &ComfyProject, desired: &Desired) -> LaunchTarget {
        LaunchTarget {
            instance: desired.sandbox.clone(),
            paths: desired.paths.clone(),
            is_isolated: project.is_isolated(),
            owner: desired.owner.uid,
            log_context: LogContext::new(&project.manifest, desired),
            code: Some(desired.code.clone()),
        }
    }

    /// The request for the launcher.
    pub(crate) fn request(&self, args: &[String], mode: LaunchMode) -> LaunchRequest {
        LaunchRequest {
            instance: self.instance.clone(),
            records: (!self.is_isolated).then(|| self.paths.records.clone()),
            args: args.to_vec(),
            how: mode,
            log_context: self.log_context.clone(),
            in_background: false,
        }
    }

    /// Has the launcher do it, and warns of what a user should know about a launch that started all
    /// the same.
    ///
    /// # Errors
    /// The launcher's, or that it exited without an answer.
    pub(crate) fn launch(&self, args: &[String], mode: LaunchMode) -> Result<LaunchHandle> {
        let request = self.request(args, mode);
        let handle = request_launch(&request, &self.paths, self.is_isolated)?;
        if let LaunchAnswer::Started {
            generation,
            unknown,
            lacking,
            ..
        } = &handle.answer
        {
            self.warn_about_launch(generation, unknown, lacking);
        }
        Ok(handle)
    }

    fn warn_about_launch(&self, generation: &str, unknown: &[String], lacking: &[String]) {
        if !unknown.is_empty() {
            render::print_warning(&format!(
                "this ComfyUI version does not know {}; starting without",
                unknown.join(", ")
            ));
        }
        lacking.iter().for_each(|l| render::print_warning(l));
        let trees = |g: &GenerationSpec| g.pins().map(|(n, p)| (n, p.tree)).collect::<Vec<_>>();
        let Some(pinned) = self.code.as_ref().map(trees) else {
            return;
        };
        let folder = self.paths.generation_dir(generation);
        let live = crate::host::build::read_spec(&folder, generation);
        if live.ok().flatten().is_none_or(|g| trees(&g) != pinned) {
            render::print_warning(
                "comfy.lock pins other code than was applied; the applied code runs. Run `comfy \
                 apply` to change it",
            );
        }
    }
}

/// Returns what was applied here, for a command that can do without comfy.toml, and warns of what
/// is wrong with that. Where `-C` names a folder, what is known to be of another one is not meant.
///
/// # Errors
/// `p`, if it is not certain which instance is meant.
pub(super) fn applied_instead(global: &GlobalArgs, p: Problem) -> Result<LaunchSpec> {
    let named = global.project.dir.as_ref().map(|dir| dir.canonicalize());
    applied_that(global, p, &|spec| {
        let Some(named) = &named else {
            return true;
        };
        let from = resolved_manifest_folder(spec);
        from.is_none_or(|from| named.as_ref().is_ok_and(|named| *named == from))
    })
}

fn applied_that(
    global: &GlobalArgs,
    p: Problem,
    is_meant: &dyn Fn(&LaunchSpec) -> bool,
) -> Result<LaunchSpec> {
    if p.is_interrupted() || global.project.host.is_some() {
        return Err(p);
    }
    let Some(spec) = only_applied().filter(is_meant) else {
        return Err(p);
    };
    let first = p.each_problem()[0].message.clone();
    render::print_warning(&format!(
        "{first}; using what was applied here, {}",
        spec.user
    ));
    Ok(spec)
}

/// The same for a command that removes something: only what was applied from the folder that
/// `global` names.
///
/// # Errors
/// `p`, as above, where another folder's instance is meant, or where `p` is no mistake in a file.
pub(super) fn applied_from_here(global: &GlobalArgs, p: Problem) -> Result<LaunchSpec> {
    use ProblemKind::{Lock, LockMismatch, Manifest, NoLock};
    // A file that somebody else could have written is no mistake of the owner's.
    if !matches!(p.kind, Manifest | Lock | NoLock | LockMismatch) {
        return Err(p);
    }
    let here = manifest_folder(&global.project).ok();
    let here = here.and_then(|dir| dir.canonicalize().ok());
    applied_that(global, p, &|spec| {
        let from = resolved_manifest_folder(spec);
        from.is_some() && from == here
    })
}

/// Reads what the root side of an apply works on.
///
/// # Errors
/// The files have a mistake, or what was applied is not the caller's.
pub(super) fn scope_for_root(request: &RequestedScope) -> Result<LoadedScope> {
    Ok(match request {
        RequestedScope::Files { dir, host } => {
            LoadedScope::Desired(Box::new(project::for_root(dir, host)?))
        }
        RequestedScope::Applied { instance } => {
            LoadedScope::Applied(Box::new(load_spec(instance, None)?))
        }
    })
}

/// The only instance that was applied here for the caller; of several, the only one that is
/// running.
fn only_applied() -> Option<LaunchSpec> {
    let mut applied = applied_instances();
    if applied.len() > 1 {
        applied.retain(|spec| running::read_running(&spec.paths).is_some());
    }
    applied.pop().filter(|_| applied.is_empty())
}

/// What was applied on this machine for the caller, as far as the caller may read the records.
pub(super) fn applied_instances() -> Vec<LaunchSpec> {
    let me = nix::unistd::geteuid();
    let caller = crate::host::env::var("SUDO_UID")
        .filter(|_| me.is_root())
        .and_then(|uid| uid.parse().ok())
        .unwrap_or_else(|| me.as_raw());
    let accounts = records::record_folders()
        .filter_map(|folder| read_launch(&folder.join("launch.json"), 0).ok())
        .filter(|spec| spec.account && spec.owner == caller);
    // Under isolation "none", with the default prefix.
    let home = crate::host::env::home_dir().map(|home| data_home(&home));
    // Root's prefix does not depend on it.
    let home = home.or_else(|| me.is_root().then(Default::default));
    let prefix = home.map(|home| InstancePaths::default_prefix(true, me.as_raw(), &home));
    let bases = prefix.and_then(|p| std::fs::read_dir(p).ok());
    let own = bases
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|base| read_launch(&base.path().join("records/launch.json"), me.as_raw()).ok())
        .filter(|spec| !spec.account);
    accounts.chain(own).collect()
}

/// Returns the folder of the comfy.toml that an instance was applied from last, if the caller may read
/// the records.
pub(super) fn manifest_folder_of(spec: &LaunchSpec) -> Option<PathBuf> {
    let machine = HostMachine::new(&spec.paths, &spec.user);
    let inventory = machine.read_inventory(&spec.paths).ok()?;
    inventory.manifest_folder
}

/// The same without links, where it is there.
fn resolved_manifest_folder(spec: &LaunchSpec) -> Option<PathBuf> {
    manifest_folder_of(spec)?.canonicalize().ok()
}

/// Returns what was applied at these paths.
///
/// # Errors
/// Nothing was, or the caller may not read it.
pub(super) fn applied_at(paths: &InstancePaths) -> Result<LaunchSpec> {
    let me = nix::unistd::geteuid().as_raw();
    read_launch(&paths.launch_record(), 0).or_else(|_| read_launch(&paths.launch_record(), me))
}

fn read_launch(path: &Path, writer: u32) -> Result<LaunchSpec> {
    serde_json::from_str(&fs::read_trusted(path, &[writer])?)
        .map_err(|e| Problem::new(e.to_string()))
}
