use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::Global;
use crate::desired::Desired;
use crate::gateway::tokens::Handle;
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::launch::client::{Asked, ask};
use crate::launch::import_log::{self, Log};
use crate::launch::{Answer, How, KILL, Request, STOP, log_writer, ready};
use crate::problem::{Doing, EXIT_ERROR, EXIT_INTERRUPTED, Problem, Result};
use crate::project::Project;
use crate::records::running;
use crate::render;

/// Start ComfyUI as the sandbox user, in the foreground
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy run                   what was applied; Ctrl-C ends it, twice \
        at once\n  comfy run -- --cpu          with a flag of ComfyUI's for this time\n  comfy run \
        --explain         what would be started, as whom, what it may touch and why"
)]
pub struct Args {
    /// Say what would be started, and start nothing
    #[arg(long)]
    explain: bool,
    /// Flags for ComfyUI, after those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    let desired = project.desired()?;
    let how = if args.explain {
        How::Explained
    } else {
        How::Attended
    };
    let Asked {
        answer,
        side: RoleProcess {
            mut child,
            stdin,
            reader,
        },
    } = ask(
        &request(&project, &desired, &args.args, how),
        &desired.paths,
        project.isolated(),
    )?;
    match answer {
        Answer::Failed(p) => Err(p),
        Answer::Explained {
            user,
            command,
            allowed,
            lacking,
        } => {
            let _ = child.wait();
            render::stdout(&explained(&user, &command));
            render::stdout(&allowed);
            lacking.iter().for_each(|l| render::warning(l));
            Ok(0)
        }
        Answer::Started {
            address,
            generation,
            nodes,
            unknown,
            lacking,
        } => {
            caveats(&desired, &generation, &unknown, &lacking);
            attend(reader, stdin, child, &address, &nodes, &desired)
        }
    }
}

/// What the launcher is asked.
pub fn request(project: &Project, desired: &Desired, args: &[String], how: How) -> Request {
    let records = (!project.isolated()).then(|| desired.paths.records.clone());
    Request {
        instance: desired.sandbox.clone(),
        records,
        args: args.to_vec(),
        how,
    }
}

/// What a person should know of a launch that was started all the same.
pub fn caveats(desired: &Desired, generation: &str, unknown: &[String], lacking: &[String]) {
    if !unknown.is_empty() {
        render::warning(&format!(
            "this ComfyUI has no {}: it was started without",
            unknown.join(", ")
        ));
    }
    lacking.iter().for_each(|l| render::warning(l));
    let live = desired
        .code
        .pins()
        .map(|(n, p)| (n, p.tree))
        .collect::<Vec<_>>();
    let same = crate::host::build::read_spec(&desired.paths.generation(generation), generation)
        .is_some_and(|g| g.pins().map(|(n, p)| (n, p.tree)).collect::<Vec<_>>() == live);
    if !same {
        render::warning(
            "comfy.lock asks for other code than was applied, which is what runs; `comfy apply` \
             brings it",
        );
    }
}

fn explained(user: &str, c: &crate::desired::launch::Command) -> String {
    let quoted = |s: &str| {
        if s.chars()
            .all(|c| c.is_alphanumeric() || "-_./:=@+,".contains(c))
            && !s.is_empty()
        {
            s.to_string()
        } else {
            format!("'{}'", crate::text::escape(s))
        }
    };
    let mut out = format!(
        "as {user}, in {}, umask 002, and no terminal:\n",
        c.folder.display()
    );
    for (k, v) in &c.env {
        out += &format!("  {k}={}\n", quoted(v));
    }
    out += &format!("  {}", c.program.display());
    for a in &c.args {
        out += &if a.starts_with("--") {
            format!(" \\\n    {}", quoted(a))
        } else {
            format!(" {}", quoted(a))
        };
    }
    if !c.lacking.is_empty() {
        out += &format!("\nthis ComfyUI does not have: {}", c.lacking.join(", "));
    }
    out
}

/// Passes on what ComfyUI says, says when it is ready, and ends it on Ctrl-C.
fn attend(
    reader: impl BufRead + Send + 'static,
    mut stdin: std::process::ChildStdin,
    mut child: std::process::Child,
    address: &str,
    nodes: &[String],
    desired: &Desired,
) -> Result<u8> {
    let hear = log_writer::heard(reader);
    let started = Instant::now();
    let (ready, over) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    // To the front root is nobody, so whoever asks shows the token.
    let (handle, owner) = (desired.paths.front(), desired.owner.uid);
    ready::poll(address, &ready, &over, move || {
        Handle::read(&handle, owner).ok()
    });
    let (mut log, mut told, mut asked) = (Log::of(nodes), false, 0);
    loop {
        match hear.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                if !line.is_empty() {
                    render::stdout(&crate::text::escape(&crate::text::without_colors(&line)));
                }
                if let Some(hint) = log.line(&line) {
                    render::note(&format!("hint: {}", crate::text::escape(&hint)));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ready.load(Ordering::Relaxed) && !told {
            told = true;
            let mut summary = import_log::summary(nodes, &log.failed(nodes)).into_iter();
            render::note(&format!(
                "ComfyUI is ready at {address} after {:.1} s; {}.",
                started.elapsed().as_secs_f64(),
                summary.next().unwrap_or_default()
            ));
            summary.for_each(|l| render::warning(&l));
            import_log::more(log.more())
                .iter()
                .for_each(|l| render::note(l));
        }
        let count = signals::count();
        if count > asked {
            // The second time at once.
            let _ = writeln!(stdin, "{}", if count > 1 { KILL } else { STOP });
            asked = count;
        }
    }
    over.store(true, Ordering::Relaxed);
    drop(stdin);
    let status = child.wait().doing(|| "wait for the launcher".into())?;
    if asked > 0 {
        return Ok(EXIT_INTERRUPTED);
    }
    match status.code() {
        Some(0) => Ok(0),
        code => {
            let what = code
                .and_then(|c| u8::try_from(c).ok())
                .map_or("a signal".into(), running::code);
            render::problem(
                &Problem::new(format!("ComfyUI ended with {what}"))
                    .hint("its last lines above say why"),
            );
            Ok(EXIT_ERROR)
        }
    }
}
