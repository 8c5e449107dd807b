use std::io::{BufRead, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::doctor::probes::ProbeContext;
use crate::doctor::{
    ProbeAs, ProbeOutcome, ProbeRequest, ProbeResult, ProbeVerdict, parse_listening_port,
    parse_result, verdicts_of,
};
use crate::host::elevate;
use crate::host::machine::identity;
use crate::host::roles::Role;
use crate::launch::LaunchMode;
use crate::launch::client::send_request;
use crate::plan::Desired;
use crate::problem::{Context, EXIT_FINDINGS, Problem, Result};
use crate::project::ComfyProject;
use crate::records::running;
use crate::render::{self, PaintStyle, paint};
use crate::text::escape_text;

/// Check the isolation by trying to break it as the sandbox user, unconfined and confined
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy doctor                needs root to become the sandbox user; \
        leaves nothing changed\n  comfy doctor --json\n\nExits with 2 if an attempt succeeded. If \
        ComfyUI is running (`comfy start`), doctor also tries its port as another user."
)]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &DoctorArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    if !project.is_isolated() {
        return Err(Problem::new(
            "isolation = \"none\" isolates nothing, so there is nothing to check",
        )
        .with_hint("set isolation = \"account\" in [host]"));
    }
    if let Some(other) = identity::other_comfy() {
        render::print_warning(&super::init::other_program_text(&other));
    }
    let desired = super::desired_state(&project)?;
    let port = running::read_running(&desired.paths)
        .and_then(|l| l.address.rsplit(':').next()?.parse().ok())
        .unwrap_or(0);
    let mut question = ProbeContext::for_machine(&desired, &project.dir, port);
    let mark = format!("HOME={}", desired.owner.home.display());
    (question.owner_pid, question.mark) = (std::process::id(), mark);
    let _service = offer_services(&mut question)?;
    let mut said = Vec::new();
    for by in [ProbeAs::Bare, ProbeAs::Confined, ProbeAs::Stranger] {
        said.extend(launcher_tries(&project, &desired, &question, by)?);
    }
    let verdicts = verdicts_of(&said, desired.platform.os.is_macos());
    let broken = verdicts.iter().any(|v| v.outcome == ProbeOutcome::Broken);
    if args.json {
        render::print_stdout(&render::plan_json::json_text(
            &serde_json::json!({ "format_version": 1, "held": !broken, "probes": verdicts }),
        ));
    } else {
        render::print_stdout(verdicts_text(&verdicts).trim_end());
        let count = |o: ProbeOutcome| verdicts.iter().filter(|v| v.outcome == o).count();
        render::print_stdout(&format!(
            "\n{} blocked, {} broken, {} could not be tried.",
            count(ProbeOutcome::Held),
            count(ProbeOutcome::Broken),
            count(ProbeOutcome::Untried)
        ));
        // Among many lines it is easily missed.
        let broken = verdicts
            .iter()
            .filter(|v| v.outcome == ProbeOutcome::Broken);
        for v in broken {
            render::print_stdout(&format!("{}  {}", paint("BROKEN", PaintStyle::Red), v.what));
        }
    }
    Ok(if broken { EXIT_FINDINGS } else { 0 })
}

/// Starts services of the owner's that the sandbox must not reach; they stop when the returned
/// values are dropped.
fn offer_services(q: &mut ProbeContext) -> Result<Vec<Box<dyn std::any::Any>>> {
    let what = || "start a test service".to_string();
    let tcp = TcpListener::bind(("127.0.0.1", 0)).with_context(what)?;
    q.service = tcp.local_addr().with_context(what)?.port();
    let mut held: Vec<Box<dyn std::any::Any>> = vec![Box::new(tcp)];
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = format!("comfy-doctor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).with_context(what)?;
        held.push(Box::new(
            UnixListener::bind_addr(&address).with_context(what)?,
        ));
        q.abstract_name = Some(name);
    }
    held.shrink_to_fit();
    Ok(held)
}

/// Has the launcher run the probes and returns their results.
fn launcher_tries(
    project: &ComfyProject,
    desired: &Desired,
    question: &ProbeContext,
    by: ProbeAs,
) -> Result<Vec<ProbeResult>> {
    let how = LaunchMode::Tried(ProbeRequest {
        by,
        question: Box::new(question.clone()),
    });
    // Some probes run unconfined, which the passwordless launcher never does.
    let mut asked = send_request(
        &LaunchTarget::for_project(project, desired).request(&[], how),
        elevate::start_role(Role::Launcher, true)?,
    )?;
    let mut said = Vec::new();
    for line in asked.side.reader.lines().map_while(std::result::Result::ok) {
        if let Some(port) = parse_listening_port(&line) {
            let (outcome, detail) = if answers_with_mark(port, &question.mark) {
                (ProbeOutcome::Broken, format!("port {port}"))
            } else {
                (ProbeOutcome::Held, String::new())
            };
            said.push(ProbeResult {
                by,
                id: "network.listen".into(),
                outcome,
                detail,
            });
        }
        said.extend(parse_result(by, &line));
    }
    drop(asked.side.stdin);
    let status = asked.side.child.wait().context("wait for the launcher")?;
    if !status.success() || said.is_empty() {
        return Err(Problem::new(format!(
            "the probes stopped early ({status}), so they prove nothing"
        ))
        .with_hint("run `comfy run --explain`; the lines above may say why"));
    }
    Ok(said)
}

/// Returns whether the listener on `port` answers with `mark`: another program may have that port
/// outside.
fn answers_with_mark(port: u16, mark: &str) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut s) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else {
        return false;
    };
    let _ = s.set_read_timeout(Some(Duration::from_millis(500)));
    let mut heard = vec![0; mark.len()];
    s.read_exact(&mut heard).is_ok() && heard == mark.as_bytes()
}

fn verdicts_text(verdicts: &[ProbeVerdict]) -> String {
    let mut out = String::new();
    for v in verdicts {
        let word = match v.outcome {
            ProbeOutcome::Held => paint("blocked", PaintStyle::Green),
            ProbeOutcome::Untried => paint("untried", PaintStyle::Dim),
            ProbeOutcome::Broken => paint("BROKEN ", PaintStyle::Red),
        };
        let tail = if v.outcome == ProbeOutcome::Untried {
            format!(" ({})", escape_text(&v.detail))
        } else {
            String::new()
        };
        out += &format!("{word}  {}{tail}\n", v.what);
        if let Some(mend) = v.mend {
            out += &format!("         {}\n         {mend}\n", escape_text(&v.detail));
        }
    }
    out
}
