//! What the launcher knows of the last apply: its records, the live generation, and whether both
//! are unchanged.

use std::path::Path;

use crate::desired::launch::{self, LaunchSpec};
use crate::desired::{GenerationSpec, InstancePaths};
use crate::host::build::{self, interpreter, venv};
use crate::host::fs;
use crate::host::machine::{HostMachine, operating_system};
use crate::manifest::names;
use crate::plan::ids::AccountIds;
use crate::plan::look::Look;
use crate::plan::observed::{Seen, TreeDifference};
use crate::problem::{Context, Problem, Result};

/// Reads the record of the last apply: a file of root's, or, under isolation "none", of the owner's
/// in the folder `records`.
///
/// # Errors
/// Nothing was applied, or it is not the caller's.
pub(crate) fn load_spec(instance: &str, records: Option<&Path>) -> Result<LaunchSpec> {
    let me = nix::unistd::geteuid();
    names::check_account(instance).map_err(|why| {
        Problem::new(format!(
            "instance \"{}\" {why}",
            crate::text::escape_text(instance)
        ))
    })?;
    let sudo = crate::host::env::var("SUDO_UID").and_then(|u| u.parse::<u32>().ok());
    // Under isolation "none" nobody elevates, so an elevated caller gets root's records.
    let own = records.filter(|_| sudo.is_none());
    let account = own.is_none();
    let records = own.map_or_else(
        || InstancePaths::records_of(instance, operating_system()),
        Path::to_path_buf,
    );
    let path = records.join("launch.json");
    if path
        .symlink_metadata()
        .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
    {
        return Err(Problem::new("nothing has been applied on this machine yet")
            .with_hint("run `comfy apply`"));
    }
    let text = fs::read_trusted(&path, &[me.as_raw()])?;
    let spec: LaunchSpec =
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    if spec.format != launch::FORMAT {
        return Err(
            Problem::new("this instance was applied by another version of comfy")
                .with_hint("run `comfy apply`"),
        );
    }
    if spec.account != account {
        return Err(
            Problem::new("comfy.toml sets another isolation than was applied")
                .with_hint("run `comfy apply`"),
        );
    }
    if account && !me.is_root() {
        return Err(Problem::new(
            "this is comfy's launcher, which `comfy run` starts automatically",
        )
        .with_hint("run `comfy run`"));
    }
    if account && sudo.is_some_and(|uid| uid != 0 && uid != spec.owner) {
        return Err(Problem::new("this instance belongs to another user")
            .with_hint(format!("its owner has uid {}", spec.owner)));
    }
    Ok(spec)
}

/// Reads the live generation.
pub(super) fn load_current(spec: &LaunchSpec) -> Result<(String, GenerationSpec)> {
    let stale = |why: &str| {
        Problem::new(format!("{} {why}", spec.paths.current_link().display()))
            .with_hint("run `comfy apply`")
    };
    let link = std::fs::read_link(spec.paths.current_link())
        .map_err(|_| stale("is not a link: no generation is live"))?;
    let id = crate::ids::GenerationId::from_link(&link)
        .map(|id| id.to_string())
        .ok_or_else(|| stale("does not point to a generation"))?;
    let generation = load_generation(spec, &id)?;
    Ok((id, generation))
}

/// Reads an existing generation.
pub(super) fn load_generation(spec: &LaunchSpec, id: &str) -> Result<GenerationSpec> {
    names::check_relative(id).map_err(|why| {
        Problem::new(format!(
            "generation \"{}\" {why}",
            crate::text::escape_text(id)
        ))
    })?;
    let bad = |why: &str| {
        Problem::new(format!("{} {why}", spec.paths.generation_dir(id).display()))
            .with_hint("run `comfy apply`")
    };
    let generation = build::read_spec(&spec.paths.generation_dir(id), id)
        .with_context(|| format!("read generation {id}"))?
        .ok_or_else(|| bad("is not a generation, or does not match its name"))?;
    if generation.venv.is_none() {
        return Err(bad("has no virtual environment: an older comfy created it"));
    }
    Ok(generation)
}

/// Ensures that code and packages are as they were applied; otherwise nothing is started.
pub(super) fn verify_integrity(
    spec: &LaunchSpec,
    g: &GenerationSpec,
    owner_gid: u32,
) -> Result<()> {
    let machine = HostMachine::new(&spec.paths, &spec.user);
    let seal = if spec.account {
        (0, 0)
    } else {
        (spec.owner, nix::unistd::getegid().as_raw())
    };
    let ids = AccountIds {
        seal: seal.0,
        seal_gid: seal.1,
        sandbox: spec.uid,
        sandbox_gid: spec.gid,
        owner: spec.owner,
        ..AccountIds::default()
    };
    let damaged = |what: &str| {
        Problem::new(format!(
            "{what} has changed since it was applied, so nothing was started"
        ))
        .with_hint("`comfy plan -v` shows the changes, `comfy apply` repairs them")
    };
    if !machine
        .check_generation(&spec.paths, g, &ids)
        .map_err(Problem::from)?
        .is_some_and(|c| c.is_intact())
    {
        return Err(damaged("the code"));
    }
    let Some(v) = &g.venv else {
        return Err(damaged("the virtual environment"));
    };
    let whole = |seen: Seen<Option<Vec<TreeDifference>>>| {
        seen.map(|f| f.is_some_and(|f| f.is_empty()))
            .map_err(Problem::from)
    };
    if !whole(venv::check_venv(&spec.paths, v, &ids, &machine.readings))? {
        return Err(damaged("the virtual environment"));
    }
    let own = v
        .interpreter
        .path
        .starts_with(spec.paths.interpreters_dir());
    if own
        && !whole(interpreter::check_interpreter(
            &spec.paths,
            &v.interpreter.version,
            &ids,
            &machine.readings,
        ))?
    {
        return Err(damaged("the interpreter"));
    }
    // The next launch and the next plan need not read them again.
    machine.write_caches(&spec.paths, spec.account.then_some((0, owner_gid)))
}
