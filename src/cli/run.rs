use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::GlobalArgs;
use crate::desired::Desired;
use crate::gateway::tokens::GatewayCredentials;
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::launch::client::{LaunchHandle, request_launch};
use crate::launch::import_log::{self, ImportLog};
use crate::launch::{KILL, LaunchAnswer, LaunchMode, LaunchRequest, STOP, log_writer, ready};
use crate::problem::{Context, EXIT_ERROR, EXIT_INTERRUPTED, Problem, Result};
use crate::project::ComfyProject;
use crate::records::running;
use crate::render;

/// Start ComfyUI as the sandbox user, in the foreground
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy run                   what was applied; Ctrl-C ends it, twice \
        at once\n  comfy run -- --cpu          with a flag of ComfyUI's for this time\n  comfy run \
        --explain         what would be started, as whom, what it may touch and why"
)]
pub struct RunArgs {
    /// Say what would be started, and start nothing
    #[arg(long)]
    explain: bool,
    /// Flags for ComfyUI, after those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(global: &GlobalArgs, args: &RunArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    super::announce_isolation(&project);
    let desired = super::desired_state(&project)?;
    let how = if args.explain {
        LaunchMode::Explained
    } else {
        LaunchMode::Attended
    };
    let LaunchHandle {
        answer,
        side: RoleProcess {
            mut child,
            stdin,
            reader,
        },
    } = request_launch(
        &launch_request(&project, &desired, &args.args, how),
        &desired.paths,
        project.is_isolated(),
    )?;
    match answer {
        LaunchAnswer::Failed(p) => Err(p),
        LaunchAnswer::Explained {
            user,
            command,
            allowed,
            lacking,
        } => {
            let _ = child.wait();
            render::print_stdout(&command_text(&user, &command));
            render::print_stdout(&allowed);
            lacking.iter().for_each(|l| render::print_warning(l));
            Ok(0)
        }
        LaunchAnswer::Started {
            address,
            generation,
            nodes,
            unknown,
            lacking,
        } => {
            warn_about_launch(&desired, &generation, &unknown, &lacking);
            attend_launch(reader, stdin, child, &address, &nodes, &desired)
        }
    }
}

/// What the launcher is asked.
pub fn launch_request(
    project: &ComfyProject,
    desired: &Desired,
    args: &[String],
    how: LaunchMode,
) -> LaunchRequest {
    let records = (!project.is_isolated()).then(|| desired.paths.records.clone());
    LaunchRequest {
        instance: desired.sandbox.clone(),
        records,
        args: args.to_vec(),
        how,
    }
}

/// What a person should know of a launch that was started all the same.
pub fn warn_about_launch(
    desired: &Desired,
    generation: &str,
    unknown: &[String],
    lacking: &[String],
) {
    if !unknown.is_empty() {
        render::print_warning(&format!(
            "this ComfyUI has no {}: it was started without",
            unknown.join(", ")
        ));
    }
    lacking.iter().for_each(|l| render::print_warning(l));
    let live = desired
        .code
        .pins()
        .map(|(n, p)| (n, p.tree))
        .collect::<Vec<_>>();
    let same = crate::host::build::read_spec(&desired.paths.generation_dir(generation), generation)
        .ok()
        .flatten()
        .is_some_and(|g| g.pins().map(|(n, p)| (n, p.tree)).collect::<Vec<_>>() == live);
    if !same {
        render::print_warning(
            "comfy.lock asks for other code than was applied, which is what runs; `comfy apply` \
             brings it",
        );
    }
}

fn command_text(user: &str, c: &crate::desired::launch::LaunchCommand) -> String {
    let quoted = |s: &str| {
        if s.chars()
            .all(|c| c.is_alphanumeric() || "-_./:=@+,".contains(c))
            && !s.is_empty()
        {
            s.to_string()
        } else {
            format!("'{}'", crate::text::escape_text(s))
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
fn attend_launch(
    reader: impl BufRead + Send + 'static,
    mut stdin: std::process::ChildStdin,
    mut child: std::process::Child,
    address: &str,
    nodes: &[String],
    desired: &Desired,
) -> Result<u8> {
    let hear = log_writer::text_lines(reader);
    let started = Instant::now();
    let (ready, over) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    // To the front root is nobody, so whoever asks shows the token.
    let (handle, owner) = (desired.paths.gateway_credentials(), desired.owner.uid);
    ready::poll_until_ready(address, &ready, &over, move || {
        GatewayCredentials::read_as_owner(&handle, owner).ok()
    });
    let (mut log, mut told, mut asked) = (ImportLog::for_nodes(nodes), false, 0);
    loop {
        match hear.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                if !line.is_empty() {
                    render::print_stdout(&crate::text::escape_text(&crate::text::without_colors(
                        &line,
                    )));
                }
                if let Some(hint) = log.push_line(&line) {
                    render::print_note(&format!("hint: {}", crate::text::escape_text(&hint)));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ready.load(Ordering::Relaxed) && !told {
            told = true;
            let mut summary =
                crate::records::import_results::nodes_summary(nodes, &log.failed_nodes(nodes))
                    .into_iter();
            render::print_note(&format!(
                "ComfyUI is ready at {address} after {:.1} s; {}.",
                started.elapsed().as_secs_f64(),
                summary.next().unwrap_or_default()
            ));
            summary.for_each(|l| render::print_warning(&l));
            import_log::more_hints_line(log.suppressed_hints())
                .iter()
                .for_each(|l| render::print_note(l));
        }
        let count = signals::interrupt_count();
        if count > asked {
            // The second time at once.
            let _ = writeln!(stdin, "{}", if count > 1 { KILL } else { STOP });
            asked = count;
        }
    }
    over.store(true, Ordering::Relaxed);
    drop(stdin);
    let status = child.wait().context("wait for the launcher")?;
    if asked > 0 {
        return Ok(EXIT_INTERRUPTED);
    }
    match status.code() {
        Some(0) => Ok(0),
        code => {
            let what = code
                .and_then(|c| u8::try_from(c).ok())
                .map_or("a signal".into(), running::exit_text);
            render::print_problem(
                &Problem::new(format!("ComfyUI ended with {what}"))
                    .with_hint("its last lines above say why"),
            );
            Ok(EXIT_ERROR)
        }
    }
}
