//! The root side: started once by `apply`, `gc` or `destroy`, with everything slow left to the
//! build process.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use super::journal::ApplyCaller;
use super::protocol::{ApplyRequest, GO, LAUNCH, RootMessage};
use super::session::ApplySession;
use crate::host::build::process::JobLimits;
use crate::host::lines;
use crate::plan::Plan;
use crate::plan::select::ResourceSelection;
use crate::problem::{Context, Problem, Result};
use crate::progress::{Progress, ProgressUnit, Reporter};

/// Serves one request from stdin. Must be called before the process has a second thread.
pub fn serve_root(
    load: &dyn Fn(&ApplyRequest) -> Result<crate::plan::Desired>,
) -> std::process::ExitCode {
    let wire = Arc::new(RemoteReporter(Mutex::new(std::io::stdout())));
    let code = match run_request(load, &wire) {
        Ok(()) => 0,
        Err(p) => {
            let exit = p.exit;
            wire.send_message(&RootMessage::Failed(p));
            exit
        }
    };
    std::process::ExitCode::from(code)
}

fn run_request(
    load: &dyn Fn(&ApplyRequest) -> Result<crate::plan::Desired>,
    wire: &Arc<RemoteReporter>,
) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Problem::new(
            "this is the root side of comfy, which `comfy apply` starts by itself",
        )
        .with_hint("run `comfy apply`"));
    }
    nix::sys::stat::umask(crate::host::fs::as_mode(0o022));
    std::env::set_current_dir("/").context("go to /")?;
    // A single Ctrl-C ends prepare or stops between two steps; more of them change nothing.
    crate::host::signals::install_handlers(false);
    let stdin = std::io::stdin();
    // Whoever may start this for the owner may not fill root's memory.
    let line = lines::next_line(&mut stdin.lock(), lines::REQUEST)
        .context("read the request")?
        .unwrap_or_default();
    let request: ApplyRequest = serde_json::from_str(&line).context("read the request")?;
    let desired = load(&request)?;
    let session = ApplySession {
        desired: &desired,
        only: ResourceSelection::parse(&request.only)?,
        job: request.job.clone(),
        net: request.net.clone(),
        hubs: request.hubs.clone(),
        suspects: request.suspects.clone(),
        offline: request.offline,
        caller: ApplyCaller::current_caller(),
        jobs: Some(JobLimits {
            strict: desired.policy.confinement == crate::manifest::ConfinementPolicy::Required,
        }),
        report: &WireReporter(wire.clone()),
    };
    let outcome = session.run_session(&mut |plan: &Plan| {
        match &request.approved {
            Some(digest) if *digest == plan.plan_digest() => return Ok(()),
            Some(_) => return Err(stale_plan(request.saved)),
            None => {}
        }
        wire.send_message(&RootMessage::Approve(Box::new(plan.clone())));
        let answer = lines::next_line(&mut std::io::stdin().lock(), lines::WORD)
            .context("read the answer")?
            .unwrap_or_default();
        if answer.trim() == GO {
            Ok(())
        } else {
            Err(Problem::new("declined"))
        }
    })?;
    wire.send_message(&RootMessage::Done(outcome));
    let word = lines::next_line(&mut std::io::stdin().lock(), lines::WORD)
        .context("hear whether that was all")?
        .unwrap_or_default();
    if word.trim() == LAUNCH {
        wire.send_message(&RootMessage::Launching);
        return Err(crate::host::elevate::become_launcher());
    }
    Ok(())
}

pub fn stale_plan(saved: bool) -> Problem {
    let what = if saved {
        "the saved plan is stale"
    } else {
        "the plan is stale"
    };
    Problem::new(format!(
        "{what}: comfy.toml, comfy.lock or the machine changed since it was made"
    ))
    .with_hint(if saved {
        "make it again with `comfy plan --out FILE`"
    } else {
        "run `comfy apply` again"
    })
}

struct RemoteReporter(Mutex<std::io::Stdout>);

impl RemoteReporter {
    fn send_message(&self, m: &RootMessage) {
        if let (Ok(text), Ok(mut out)) = (serde_json::to_string(m), self.0.lock()) {
            // The owner's side may be gone; a commit that has begun goes on without it.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }
}

struct WireReporter(Arc<RemoteReporter>);

impl Reporter for WireReporter {
    fn start_counted(&self, name: &str, unit: ProgressUnit) -> Box<dyn Progress> {
        Box::new(RemoteJob {
            wire: self.0.clone(),
            name: name.into(),
            unit,
            last: Mutex::new(BTreeMap::new()),
        })
    }
    fn print_line(&self, line: &str) {
        self.0.send_message(&RootMessage::Say(line.into()));
    }
    fn step_done(&self, address: &str) {
        self.0.send_message(&RootMessage::Step(address.into()));
    }
}

struct RemoteJob {
    wire: Arc<RemoteReporter>,
    name: String,
    unit: ProgressUnit,
    last: Mutex<BTreeMap<u64, std::time::Instant>>,
}

impl Progress for RemoteJob {
    fn set_position(&self, at: u64, total: u64) {
        let Ok(mut last) = self.last.lock() else {
            return;
        };
        if at != total && last.get(&0).is_some_and(|t| t.elapsed().as_millis() < 50) {
            return;
        }
        last.insert(0, std::time::Instant::now());
        self.wire.send_message(&RootMessage::Progress {
            job: self.name.clone(),
            unit: self.unit,
            at,
            total,
        });
    }
}
