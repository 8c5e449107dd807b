//! The root side: started once by `apply`, `gc` or `destroy`, with everything slow left to the
//! build process.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use super::journal::Caller;
use super::protocol::{GO, LAUNCH, Message, Request};
use super::session::Session;
use crate::host::build::process::Jobs;
use crate::host::lines;
use crate::plan::Plan;
use crate::plan::select::Selection;
use crate::problem::{Doing, Problem, Result};
use crate::progress::{Progress, Reporter, Unit};

/// Serves one request from stdin. Must be called before the process has a second thread.
pub fn serve(load: &dyn Fn(&Request) -> Result<crate::plan::Desired>) -> std::process::ExitCode {
    let wire = Arc::new(Wire(Mutex::new(std::io::stdout())));
    let code = match converse(load, &wire) {
        Ok(()) => 0,
        Err(p) => {
            let exit = p.exit;
            wire.send(&Message::Failed(p));
            exit
        }
    };
    std::process::ExitCode::from(code)
}

fn converse(
    load: &dyn Fn(&Request) -> Result<crate::plan::Desired>,
    wire: &Arc<Wire>,
) -> Result<()> {
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
    let stdin = std::io::stdin();
    // Whoever may start this for the owner may not fill root's memory.
    let line = lines::next(&mut stdin.lock(), lines::REQUEST)
        .doing(|| "read the request".into())?
        .unwrap_or_default();
    let request: Request = serde_json::from_str(&line).doing(|| "read the request".into())?;
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
        report: &WireReporter(wire.clone()),
    };
    let outcome = session.run(&mut |plan: &Plan| {
        match &request.approved {
            Some(digest) if *digest == plan.digest() => return Ok(()),
            Some(_) => return Err(stale(request.saved)),
            None => {}
        }
        wire.send(&Message::Approve(Box::new(plan.clone())));
        let answer = lines::next(&mut std::io::stdin().lock(), lines::WORD)
            .doing(|| "read the answer".into())?
            .unwrap_or_default();
        if answer.trim() == GO {
            Ok(())
        } else {
            Err(Problem::new("declined"))
        }
    })?;
    wire.send(&Message::Done(outcome));
    let word = lines::next(&mut std::io::stdin().lock(), lines::WORD)
        .doing(|| "hear whether that was all".into())?
        .unwrap_or_default();
    if word.trim() == LAUNCH {
        wire.send(&Message::Launching);
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

struct Wire(Mutex<std::io::Stdout>);

impl Wire {
    fn send(&self, m: &Message) {
        if let (Ok(text), Ok(mut out)) = (serde_json::to_string(m), self.0.lock()) {
            // The owner's side may be gone; a commit that has begun goes on without it.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }
}

struct WireReporter(Arc<Wire>);

impl Reporter for WireReporter {
    fn work(&self, name: &str, unit: Unit) -> Box<dyn Progress> {
        Box::new(Job {
            wire: self.0.clone(),
            name: name.into(),
            unit,
            last: Mutex::new(BTreeMap::new()),
        })
    }
    fn say(&self, line: &str) {
        self.0.send(&Message::Say(line.into()));
    }
    fn step(&self, address: &str) {
        self.0.send(&Message::Step(address.into()));
    }
}

struct Job {
    wire: Arc<Wire>,
    name: String,
    unit: Unit,
    last: Mutex<BTreeMap<u64, std::time::Instant>>,
}

impl Progress for Job {
    fn at(&self, at: u64, total: u64) {
        let Ok(mut last) = self.last.lock() else {
            return;
        };
        if at != total && last.get(&0).is_some_and(|t| t.elapsed().as_millis() < 50) {
            return;
        }
        last.insert(0, std::time::Instant::now());
        self.wire.send(&Message::Progress {
            job: self.name.clone(),
            unit: self.unit,
            at,
            total,
        });
    }
}
