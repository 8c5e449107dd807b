use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::gateway::tokens::GatewayCredentials;
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::launch::client::LaunchHandle;
use crate::launch::import_log::{self, ImportLog};
use crate::launch::{KILL, LaunchAnswer, LaunchMode, STOP, log_writer, ready};
use crate::problem::{Context, EXIT_ERROR, EXIT_INTERRUPTED, Problem, Result};
use crate::records::running;
use crate::render;

/// Run ComfyUI as the sandbox user, in the foreground
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy run                   runs what was applied; Ctrl-C stops \
        it, a second one kills it\n  comfy run -- --cpu          with a ComfyUI flag, this time \
        only\n  comfy run \
        --explain         shows what would run, as whom, what it may access and why"
)]
pub(crate) struct RunArgs {
    /// Show what would be started; start nothing
    #[arg(long)]
    explain: bool,
    /// Flags for ComfyUI, added to those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub(crate) fn run(global: &GlobalArgs, args: &RunArgs) -> Result<u8> {
    let target = LaunchTarget::open(global)?;
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
    } = target.launch(&args.args, how)?;
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
        LaunchAnswer::Started { address, nodes, .. } => {
            attend_launch(reader, stdin, child, &address, &nodes, &target)
        }
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
        "as {user}, in {}, umask 002, without a terminal:\n",
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
        out += &format!(
            "\nthis ComfyUI version does not know: {}",
            c.lacking.join(", ")
        );
    }
    out
}

/// Passes ComfyUI's output through, prints a line when it is ready, and stops it on Ctrl-C.
fn attend_launch(
    reader: impl BufRead + Send + 'static,
    mut stdin: std::process::ChildStdin,
    mut child: std::process::Child,
    address: &str,
    nodes: &[String],
    target: &LaunchTarget,
) -> Result<u8> {
    let hear = log_writer::text_lines(reader);
    let started = Instant::now();
    let (ready, over) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    // The gateway does not admit root, so the request carries the token.
    let (handle, owner) = (target.paths.gateway_credentials(), target.owner);
    ready::poll_until_ready(address, &ready, &over, move || {
        GatewayCredentials::read_as_owner(&handle, owner).ok()
    });
    let (mut log, mut told, mut asked) = (
        ImportLog::for_nodes(nodes, target.log_context.clone()),
        false,
        0,
    );
    loop {
        match hear.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                if !line.is_empty() {
                    render::print_stdout(&crate::text::escape_text(&crate::text::without_colors(
                        &line,
                    )));
                }
                // A line of comfy's own gateway is a hint already.
                let hint = log.push_line(&line);
                if let Some(hint) = hint.filter(|_| !line.starts_with("comfy: ")) {
                    render::print_note(&format!("hint: {}", crate::text::escape_text(&hint)));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ready.load(Ordering::Relaxed) && !told {
            told = true;
            let mut summary = crate::records::import_results::nodes_summary(
                nodes,
                &log.failed_nodes(nodes),
                &log.partial_nodes(nodes),
            )
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
            // The second Ctrl-C kills it.
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
    if running::last_exit(&target.paths).is_some_and(|e| e.asked) {
        render::print_note("ComfyUI was stopped.");
        return Ok(0);
    }
    match status.code() {
        Some(0) => Ok(0),
        code => {
            let what = code
                .and_then(|c| u8::try_from(c).ok())
                .map_or("a signal".into(), running::exit_text);
            render::print_problem(
                &Problem::new(format!("ComfyUI exited with {what}"))
                    .with_hint("its last lines above may say why"),
            );
            Ok(EXIT_ERROR)
        }
    }
}
