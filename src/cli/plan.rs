use std::collections::BTreeMap;
use std::path::PathBuf;

use super::GlobalArgs;
use crate::desired::{Desired, GenerationSpec};
use crate::host::git::distance::KnownCommits;
use crate::host::git::{FetchDepth, GitStore, objects};
use crate::host::machine::HostMachine;
use crate::host::net::NetEnv;
use crate::ids::Part;
use crate::lock::difference::CommitRange;
use crate::manifest::IsolationMode;
use crate::plan::Plan;
use crate::plan::select::ResourceSelection;
use crate::problem::{Context, EXIT_FINDINGS, Problem, Result};
use crate::project::ComfyProject;
use crate::records::running;
use crate::render;
use crate::render::plan_text::PlanDetail;
use crate::scan::capabilities::Capabilities;

/// Show what would change on this machine; changes nothing
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy plan\n  comfy plan --only nodes     a family, or an address such as \
        share.models\n  comfy plan --out today.plan && comfy \
        apply today.plan\n  comfy plan --exit-code -q   exits with 2 if this machine differs or \
        could not be read"
)]
pub(crate) struct PlanArgs {
    /// Save the plan for `comfy apply FILE`
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Plan only this family (user, comfyui, nodes, python, models, shares, network) or address,
    /// and what it needs; may be repeated
    #[arg(long, value_name = "SEL", add = super::completions::selections())]
    only: Vec<String>,
    /// Exit 2 if anything differs or could not be read
    #[arg(long)]
    exit_code: bool,
}

/// A saved plan, bound to manifest, lock and machine by the plan's own digest.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct SavedPlan {
    pub comfy_plan: u32,
    pub dir: PathBuf,
    pub plan: Plan,
}

pub(crate) fn run(global: &GlobalArgs, args: &PlanArgs) -> Result<u8> {
    let only = ResourceSelection::parse(&args.only)?;
    let project = ComfyProject::open(global)?;
    super::announce_isolation(&project);
    let desired = super::desired_state(&project)?;
    warn_off_ref(&project, global.verbose);
    let machine = HostMachine::new(&desired.paths, &desired.sandbox);
    let plan = crate::kinds::plan(&desired, &machine, &only)?;
    if global.json {
        let commits = commits_of(&plan, &desired);
        render::json_output::set_data(&render::plan_json::plan_value(&plan, &commits));
    }
    if !global.json {
        print_plan(&plan, Some(&desired), global.verbose);
    }
    if args.out.is_some() && plan.root_could_see_more() {
        return Err(Problem::new(
            "this plan contains unknowns that only root can read, so it could never be applied as \
             it is",
        )
        .with_hint("run `comfy apply`: it reads them as root, then asks you"));
    }
    if let Some(file) = &args.out {
        let saved = SavedPlan {
            comfy_plan: 1,
            dir: project.dir.clone(),
            plan: plan.clone(),
        };
        let text = serde_json::to_string_pretty(&saved).context("write the plan")?;
        let here = std::env::current_dir().context("find the current folder")?;
        // `apply` refuses half a file, which a full disk would leave.
        std::fs::write(here.join(file), text + "\n")
            .with_context(|| format!("write {}", file.display()))?;
        render::print_note(&format!(
            "Saved. To apply exactly this plan, run: comfy apply {}",
            file.display()
        ));
    }
    let differs = !plan.is_empty();
    // The process exits now: freeing a large library of models takes longer than reading it.
    std::mem::forget((plan, desired, project));
    Ok(if args.exit_code && differs {
        EXIT_FINDINGS
    } else {
        0
    })
}

/// Warns of commits that are not on their refs, as far as the caller's cache knows; asks no server
/// and creates nothing.
fn warn_off_ref(project: &ComfyProject, verbose: bool) {
    if let (Some(git), Some((lock, _))) = (known_store(project.is_isolated()), &project.lock) {
        super::lock::warn_off_ref(&super::lock::repositories_of(lock), verbose, &|pin| {
            git.known_standing(&pin.repo, &pin.git_ref, &pin.commit)
        });
    }
}

/// Returns the caller's store, to look up what it knows; it asks no server and creates nothing.
/// Root does not read it where the accounts are apart.
pub(crate) fn known_store(is_isolated: bool) -> Option<GitStore> {
    if nix::unistd::geteuid().is_root() && is_isolated {
        return None;
    }
    Some(GitStore {
        home: None,
        program: None,
        net: NetEnv::default(),
        store: crate::host::env::cache_home()?.join("git"),
        offline: true,
        config: PathBuf::new(),
    })
}

/// Returns the commits by which each part moves, by address, as far as the store knows them.
pub(crate) fn commits_of(plan: &Plan, desired: &Desired) -> BTreeMap<String, CommitRange> {
    let mut out = BTreeMap::new();
    let live = running::live_spec(&desired.paths);
    let store = known_store(desired.isolation == IsolationMode::Account);
    let (Some(live), Some(store)) = (live, store) else {
        return out;
    };
    let known = KnownCommits::of_store(store);
    for change in plan.changes.iter().filter(|c| c.is_difference()) {
        let address = change.address.to_string();
        let Ok(part) = address.parse::<Part>() else {
            continue;
        };
        if let (Some(old), Some(new)) = (live.pin_of(&part), desired.code.pin_of(&part))
            && old.repo == new.repo
            && old.commit != new.commit
            && let Some(range) = known.list_between(&new.repo, &old.commit, &new.commit)
            && range.count > 0
        {
            out.insert(address, range);
        }
    }
    out
}

/// What a part that moves newly can do, if both pins were scanned by the caller: nothing is scanned
/// for a plan.
fn capabilities_of(address: &str, desired: &Desired, live: Option<&GenerationSpec>) -> Vec<String> {
    let lines = || {
        let part: Part = address.parse().ok()?;
        let (old, new) = (live?.pin_of(&part)?, desired.code.pin_of(&part)?);
        let cache = crate::host::env::cache_home().filter(|_| old.tree != new.tree)?;
        let kept = |pin| crate::host::scan::pins::kept_report(&cache, pin, FetchDepth::Sources);
        let of = |pin| Some(Capabilities::of_report(&kept(pin)?));
        Some(of(new)?.lines_since(&of(old)?))
    };
    lines().unwrap_or_default()
}

/// Prints the plan to stdout, with what `desired` tells of code that moves.
pub(crate) fn print_plan(plan: &Plan, desired: Option<&Desired>, verbose: bool) {
    // An apply removes what was added on this machine.
    let diff = |address: &str, path: &str| {
        Some(file_texts(desired?, address, path)?.unified_diff_to_lock())
    };
    let commits = desired
        .filter(|_| verbose)
        .map_or_else(BTreeMap::new, |d| commits_of(plan, d));
    let live = desired.and_then(|d| running::live_spec(&d.paths));
    let text = render::plan_text::plan_text(
        plan,
        &PlanDetail {
            verbose,
            diff: &diff,
            commits: &commits,
            capabilities: &|address| {
                desired.map_or_else(Vec::new, |d| capabilities_of(address, d, live.as_ref()))
            },
        },
    );
    if verbose {
        // With diffs, whose lines are as they are.
        render::print_stdout(text.trim_end());
    } else {
        render::print_wrapped_stdout(text.trim_end());
    }
    if verbose && !plan.steps.is_empty() {
        render::print_stdout(&format!(
            "\n{}",
            render::plan_text::steps_text(plan).trim_end()
        ));
    }
}

/// The text of a file as comfy.lock pins it, and as it is on this machine.
pub(crate) struct FileTexts {
    locked: String,
    on_machine: String,
}

impl FileTexts {
    /// Returns what an apply would change.
    fn unified_diff_to_lock(&self) -> String {
        let names = ("this machine", "comfy.lock");
        unified_diff(&self.on_machine, &self.locked, names)
    }

    /// Returns what was changed on this machine.
    pub(crate) fn unified_diff_to_machine(&self) -> String {
        let names = ("comfy.lock", "this machine");
        unified_diff(&self.locked, &self.on_machine, names)
    }
}

fn unified_diff(old: &str, new: &str, names: (&str, &str)) -> String {
    similar::TextDiff::from_lines(old, new)
        .unified_diff()
        .context_radius(2)
        .header(names.0, names.1)
        .to_string()
}

/// Reads both texts of a file; `None` if it is not text or is too large.
pub(crate) fn file_texts(desired: &Desired, address: &str, path: &str) -> Option<FileTexts> {
    // Another uid filled the store, so root does not parse it.
    if nix::unistd::geteuid().is_root() && desired.isolation == IsolationMode::Account {
        return None;
    }
    const LIMIT: usize = 256 << 10;
    let part: Part = address.parse().ok()?;
    let pin = desired.code.pin_of(&part)?;
    let store = GitStore {
        home: None,
        program: None,
        net: NetEnv::default(),
        store: desired.paths.git_store(),
        offline: true,
        config: PathBuf::new(),
    };
    let inner = path.strip_prefix("ComfyUI/")?;
    let inner = match &part {
        Part::Node(name) => inner
            .strip_prefix("custom_nodes/")?
            .strip_prefix(name.as_str())?
            .strip_prefix('/')?,
        Part::Comfyui => inner,
    };
    let locked = objects::file_at(
        &store.store_folder(&pin.repo, FetchDepth::Whole),
        &pin.commit,
        inner,
    )?;
    let is = std::fs::read(desired.paths.current_link().join(path)).ok()?;
    if locked.len() > LIMIT || is.len() > LIMIT {
        return None;
    }
    Some(FileTexts {
        locked: String::from_utf8(locked).ok()?,
        on_machine: String::from_utf8(is).ok()?,
    })
}
