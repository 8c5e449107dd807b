//! The root side, started once by `apply`, `gc` or `destroy`; it leaves everything slow to the
//! build process.

use super::journal::ApplyCaller;
use super::protocol::{ApplyRequest, GO, LAUNCH, RootMessage};
use super::scope::{LoadedScope, RequestedScope};
use super::session::ApplySession;
use crate::host::build::process::JobLimits;
use crate::host::lines;
use crate::host::roles::serve;
use crate::host::roles::wire::{self, RemoteReporter};
use crate::plan::Plan;
use crate::plan::select::ResourceSelection;
use crate::problem::{Context, Problem, ProblemKind, Result};

/// Serves one request from stdin. Must be called while the process has one thread.
pub(crate) fn serve_apply(
    load: &dyn Fn(&RequestedScope) -> Result<LoadedScope>,
) -> std::process::ExitCode {
    serve::answer(|| run_request(load).map(|()| 0), RootMessage::Failed)
}

fn run_request(load: &dyn Fn(&RequestedScope) -> Result<LoadedScope>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Problem::new(
            "this is the root side of comfy, which `comfy apply` starts automatically",
        )
        .with_hint("run `comfy apply`"));
    }
    nix::sys::stat::umask(crate::host::fs::as_mode(0o022));
    std::env::set_current_dir("/").context("go to /")?;
    // A single Ctrl-C stops the preparation, or the commit between two steps; more of them change
    // nothing.
    crate::host::signals::install_handlers(false);
    let request: ApplyRequest = serve::read_config()?;
    let loaded = load(&request.scope)?;
    let scope = loaded.as_scope();
    let session = ApplySession {
        scope,
        only: ResourceSelection::parse(&request.only)?,
        job: request.job.clone(),
        net: request.net.clone(),
        hubs: request.hubs.clone(),
        suspects: request.suspects.clone(),
        offline: request.offline,
        caller: ApplyCaller::current_caller(),
        jobs: Some(JobLimits {
            strict: scope.requires_confinement(),
        }),
        report: &RemoteReporter::<RootMessage>::default(),
    };
    let outcome = session.run_session(&mut |plan: &Plan| {
        match &request.approved {
            Some(digest) if *digest == plan.plan_digest() => return Ok(()),
            Some(_) => return Err(stale_plan(request.saved)),
            None => {}
        }
        wire::print_line(&RootMessage::Approve(Box::new(plan.clone())));
        let answer = lines::next_line(&mut std::io::stdin().lock(), lines::WORD)
            .context("read the answer")?
            .unwrap_or_default();
        if answer.trim() == GO {
            Ok(())
        } else {
            Err(Problem::new("declined"))
        }
    })?;
    wire::print_line(&RootMessage::Done(outcome));
    let word = lines::next_line(&mut std::io::stdin().lock(), lines::WORD)
        .context("read the next request")?
        .unwrap_or_default();
    if word.trim() == LAUNCH {
        wire::print_line(&RootMessage::Launching);
        return Err(crate::host::elevate::become_launcher());
    }
    Ok(())
}

pub(crate) fn stale_plan(saved: bool) -> Problem {
    let what = if saved {
        "the saved plan is stale"
    } else {
        "the plan is stale"
    };
    Problem::new(format!(
        "{what}: comfy.toml, comfy.lock or the machine has changed since the plan was made"
    ))
    .with_hint(if saved {
        "save it again with `comfy plan --out FILE`"
    } else {
        "run `comfy apply` again"
    })
    .of_kind(ProblemKind::StalePlan)
}
