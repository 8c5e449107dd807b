use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::Global;
use super::project::Project;
use crate::host::{elevate, signals};
use crate::problem::{Doing, EXIT_ERROR, EXIT_INTERRUPTED, Problem, Result};
use crate::render;
use crate::run::watch::Log;
use crate::run::{Answer, KILL, Request, STOP};

/// Start ComfyUI as the sandbox user, in the foreground
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy run                   what was applied; Ctrl-C ends it, twice at once\n  comfy run -- --cpu          with a flag of ComfyUI's for this time\n  comfy run --explain         what would be started, as whom, with which environment"
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
    let records = (!project.isolated()).then(|| desired.paths.records.clone());
    let request = Request { instance: desired.sandbox.clone(), records, args: args.args.clone(), explain: args.explain };
    let mut child = elevate::side(elevate::LAUNCH_SIDE, project.isolated())?;
    let mut stdin = child.stdin.take().ok_or_else(|| Problem::new("no pipe to the launcher"))?;
    let stdout = child.stdout.take().ok_or_else(|| Problem::new("no pipe from the launcher"))?;
    let text = serde_json::to_string(&request).doing(|| "ask the launcher".into())?;
    // One that ended already says why on its own.
    let _ = writeln!(stdin, "{text}");
    let mut reader = BufReader::new(stdout);
    let Some(answer) = answer(&mut reader) else {
        drop(stdin);
        let status = child.wait().doing(|| "wait for the launcher".into())?;
        return Err(if signals::interrupted() {
            Problem::interrupted()
        } else {
            Problem::new(format!("the launcher ended without an answer ({status})")).hint("did sudo refuse?")
        });
    };
    match answer {
        Answer::Failed(p) => {
            let _ = child.wait();
            Err(p)
        }
        Answer::Explained { user, command, confinement, lacking } => {
            let _ = child.wait();
            render::stdout(&explained(&user, &command));
            render::stdout(&crate::confine::explain::text(&confinement));
            lacking.iter().for_each(|l| render::warning(l));
            Ok(0)
        }
        Answer::Started { address, generation, nodes, unknown, lacking } => {
            if !unknown.is_empty() {
                render::warning(&format!("this ComfyUI has no {}: it was started without", unknown.join(", ")));
            }
            lacking.iter().for_each(|l| render::warning(l));
            let live = desired.code.pins().map(|(n, p)| (n, p.tree)).collect::<Vec<_>>();
            let same = crate::host::generation::read_spec(&desired.paths.generation(&generation), &generation)
                .is_some_and(|g| g.pins().map(|(n, p)| (n, p.tree)).collect::<Vec<_>>() == live);
            if !same {
                render::warning("comfy.lock asks for other code than was applied, which is what runs; `comfy apply` brings it");
            }
            attend(reader, stdin, child, &address, &nodes)
        }
    }
}

/// The launcher's first line; what sudo or PAM print before it is not ours.
fn answer(reader: &mut impl BufRead) -> Option<Answer> {
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        if let Ok(a) = serde_json::from_str(&line) {
            return Some(a);
        }
        line.clear();
    }
    None
}

fn explained(user: &str, c: &crate::plan::launch::Command) -> String {
    let quoted = |s: &str| {
        if s.chars().all(|c| c.is_alphanumeric() || "-_./:=@+,".contains(c)) && !s.is_empty() { s.to_string() } else { format!("'{}'", crate::text::escape(s)) }
    };
    let mut out = format!("as {user}, in {}, umask 002, no way to new rights, and no terminal:\n", c.folder.display());
    for (k, v) in &c.env {
        out += &format!("  {k}={}\n", quoted(v));
    }
    out += &format!("  {}", c.program.display());
    for a in &c.args {
        out += &if a.starts_with("--") { format!(" \\\n    {}", quoted(a)) } else { format!(" {}", quoted(a)) };
    }
    if !c.lacking.is_empty() {
        out += &format!("\nthis ComfyUI does not have: {}", c.lacking.join(", "));
    }
    out
}

/// Passes on what ComfyUI says, says when it is ready, and ends it on Ctrl-C.
fn attend(
    mut reader: impl BufRead + Send + 'static,
    mut stdin: std::process::ChildStdin,
    mut child: std::process::Child,
    address: &str,
    nodes: &[String],
) -> Result<u8> {
    let (tell, hear) = channel();
    std::thread::spawn(move || {
        let mut line = Vec::new();
        // A progress bar's line ends with a carriage return.
        for byte in std::io::Read::by_ref(&mut reader).bytes().map_while(std::result::Result::ok) {
            if byte == b'\n' || byte == b'\r' || line.len() > 16_384 {
                if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
            if byte != b'\n' && byte != b'\r' {
                line.push(byte);
            }
        }
        let _ = tell.send(String::from_utf8_lossy(&line).into_owned());
    });
    let started = Instant::now();
    let (ready, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    poll(address, &ready, &over);
    let (mut log, mut told, mut asked) = (Log::default(), false, 0);
    loop {
        match hear.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                if !line.is_empty() {
                    render::stdout(&crate::text::escape(&crate::text::without_colors(&line)));
                }
                if let Some(hint) = log.line(&line) {
                    render::note(&format!("hint: {hint}"));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if ready.load(Ordering::Relaxed) && !told {
            told = true;
            let mut summary = log.summary(nodes).into_iter();
            render::note(&format!("ComfyUI is ready at {address} after {:.1} s; {}.", started.elapsed().as_secs_f64(), summary.next().unwrap_or_default()));
            summary.for_each(|l| render::warning(&l));
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
            let what = code.map_or("a signal".into(), |c| if c > 128 { format!("signal {}", c - 128) } else { format!("exit code {c}") });
            render::problem(&Problem::new(format!("ComfyUI ended with {what}")).hint("its last lines above say why"));
            Ok(EXIT_ERROR)
        }
    }
}

/// Asks until ComfyUI answers.
fn poll(address: &str, ready: &Arc<AtomicBool>, over: &Arc<AtomicBool>) {
    let url = format!("{}/system_stats", address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:"));
    let (ready, over) = (Arc::clone(ready), Arc::clone(over));
    std::thread::spawn(move || {
        let agent = crate::host::http::local();
        while !over.load(Ordering::Relaxed) {
            if agent.get(&url).call().is_ok() {
                ready.store(true, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}
