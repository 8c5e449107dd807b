//! The root side: started once by `apply`, `gc` or `destroy`, with everything slow left to the
//! build process.

use super::journal::Caller;
use super::protocol::{GO, LAUNCH, Message, Request};
use super::session::Session;
use crate::host::build::process::Jobs;
use crate::host::lines;
use crate::host::roles::serve;
use crate::host::roles::wire::{self, RemoteReporter};
use crate::plan::Plan;
use crate::plan::select::Selection;
use crate::problem::{Doing, Problem, Result};

/// Serves one request from stdin. Must be called before the process has a second thread.
pub fn serve_apply(
    load: &dyn Fn(&Request) -> Result<crate::plan::Desired>,
) -> std::process::ExitCode {
    serve::answer(|| converse(load).map(|()| 0), Message::Failed)
}

fn converse(load: &dyn Fn(&Request) -> Result<crate::plan::Desired>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Problem::new(
            "this is the root side of comfy, which `comfy apply` starts by itself",
        )
        .hint("run `comfy apply`"));
    }
    nix::sys::stat::umask(crate::host::fs::mode(0o022));
    std::env::set_current_dir("/").doing(|| "go to /".into())?;
    // A single Ctrl-C ends prepare or stops between two steps; more of them change nothing.
    crate::host::signals::watch(false);
    let request: Request = serve::read_config()?;
    let desired = load(&request)?;
    let session = Session {
        desired: &desired,
        only: Selection::parse(&request.only)?,
        job: request.job.clone(),
        net: request.net.clone(),
        hubs: request.hubs.clone(),
        suspects: request.suspects.clone(),
        offline: request.offline,
        caller: Caller::now(),
        jobs: Some(Jobs {
            strict: desired.launch().policy.confinement == "required",
        }),
        report: &RemoteReporter::<Message>::default(),
    };
    let outcome = session.run(&mut |plan: &Plan| {
        match &request.approved {
            Some(digest) if *digest == plan.digest() => return Ok(()),
            Some(_) => return Err(stale(request.saved)),
            None => {}
        }
        wire::print_line(&Message::Approve(Box::new(plan.clone())));
        let answer = lines::next(&mut std::io::stdin().lock(), lines::WORD)
            .doing(|| "read the answer".into())?
            .unwrap_or_default();
        if answer.trim() == GO {
            Ok(())
        } else {
            Err(Problem::new("declined"))
        }
    })?;
    wire::print_line(&Message::Done(outcome));
    let word = lines::next(&mut std::io::stdin().lock(), lines::WORD)
        .doing(|| "hear whether that was all".into())?
        .unwrap_or_default();
    if word.trim() == LAUNCH {
        wire::print_line(&Message::Launching);
        return Err(crate::host::elevate::become_launcher());
    }
    Ok(())
}

pub fn stale(saved: bool) -> Problem {
    let what = if saved {
        "the saved plan is stale"
    } else {
        "the plan is stale"
    };
    Problem::new(format!(
        "{what}: comfy.toml, comfy.lock or the machine changed since it was made"
    ))
    .hint(if saved {
        "make it again with `comfy plan --out FILE`"
    } else {
        "run `comfy apply` again"
    })
}
