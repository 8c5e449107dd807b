use std::io::{BufRead, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::doctor::probes::ProbeContext;
use crate::doctor::report::{self, PrivateWords, ReportFact, ReportPage};
use crate::doctor::{
    ProbeAs, ProbeOutcome, ProbeRequest, ProbeResult, ProbeVerdict, parse_listening_port,
    parse_result, verdicts_of,
};
use crate::host::elevate;
use crate::host::fs::mounts;
use crate::host::machine::{identity, report_facts};
use crate::host::roles::Role;
use crate::launch::LaunchMode;
use crate::launch::client::send_request;
use crate::manifest::LaunchSession;
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
        leaves nothing changed\n  comfy doctor --json\n  comfy doctor --report       tries \
        more on a Mac: the GPU in every way to start ComfyUI\n\nExits with 2 if an attempt succeeded. If \
        ComfyUI is running (`comfy start`), doctor also tries its port as another user."
)]
pub(crate) struct DoctorArgs {
    /// Print one page about this machine, without private data, to paste into an issue
    #[arg(long)]
    report: bool,
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
        let (results, _) = launcher_tries(&project, &desired, &question, by, None)?;
        said.extend(results);
    }
    let os = desired.platform.os;
    let mut verdicts = verdicts_of(&said, os.is_macos());
    let gpu_is_broken = verdicts
        .iter()
        .any(|v| v.id == "gpu.metal" && v.outcome == ProbeOutcome::Broken);
    let mut facts = Vec::new();
    if args.report || gpu_is_broken {
        facts = find_facts(&project, &desired, &question, args.report)?;
        explain_session(&mut verdicts, &facts, project.manifest.run.session);
    }
    let broken = verdicts.iter().any(|v| v.outcome == ProbeOutcome::Broken);
    let exit_code = if broken { EXIT_FINDINGS } else { 0 };
    if args.report {
        render::print_stdout(report_text(&project, &desired, &facts, &verdicts).trim_end());
        return Ok(exit_code);
    }
    render::json_output::set_data(&serde_json::json!({ "held": !broken, "probes": verdicts }));
    if !global.json {
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
    Ok(exit_code)
}

/// Has facts found out: of each session that this system has, and unconfined too for a report.
fn find_facts(
    project: &ComfyProject,
    desired: &Desired,
    question: &ProbeContext,
    whole: bool,
) -> Result<Vec<ReportFact>> {
    let question = ProbeContext {
        facts: true,
        ..question.clone()
    };
    let sessions: &[LaunchSession] = if desired.platform.os.is_macos() {
        &[LaunchSession::Own, LaunchSession::Caller]
    } else {
        &[LaunchSession::Own]
    };
    let whom: &[ProbeAs] = if whole {
        &[ProbeAs::Bare, ProbeAs::Confined]
    } else {
        &[ProbeAs::Confined]
    };
    let mut out = Vec::new();
    for by in whom {
        for session in sessions {
            let (_, facts) = launcher_tries(project, desired, &question, *by, Some(*session))?;
            out.extend(facts);
        }
    }
    Ok(out)
}

/// Says which session computes, if another one than comfy.toml's does.
fn explain_session(verdicts: &mut [ProbeVerdict], facts: &[ReportFact], is: LaunchSession) {
    let Some(better) = report::better_session(facts).filter(|better| *better != is) else {
        return;
    };
    for v in verdicts.iter_mut().filter(|v| v.id == "gpu.metal") {
        v.mend = Some(match better {
            LaunchSession::Caller => {
                "the GPU computes only in your own session: write [run] session = \"caller\", then \
                 `comfy apply`; what is confined still does not reach your clipboard and applications"
            }
            LaunchSession::Own => {
                "the GPU computes only in a session of its own: remove `session` from [run], then \
                 `comfy apply`"
            }
        });
    }
}

fn report_text(
    project: &ComfyProject,
    desired: &Desired,
    facts: &[ReportFact],
    verdicts: &[ProbeVerdict],
) -> String {
    let os = desired.platform.os;
    let mut machine = vec![("comfy".to_string(), super::VERSION.to_string())];
    machine.extend(report_facts::machine_facts(os));
    for share in &desired.shares {
        let access = format!("{:?}", share.access).to_lowercase();
        let owners = match mounts::unowned_volume(&share.path) {
            Ok(None) => "keeps owners",
            Ok(Some(_)) => "ignores owners",
            Err(_) => "cannot be read",
        };
        let managed = if share.manage { "" } else { ", not managed" };
        machine.push(("share".into(), format!("{access}, {owners}{managed}")));
    }
    let path = |p: &std::path::Path| p.display().to_string();
    let names = vec![
        (desired.owner.name.clone(), "OWNER"),
        (desired.sandbox.clone(), "SANDBOX"),
        (identity::short_hostname(), "HOST"),
    ];
    let mut folders = vec![
        (path(&desired.owner.home), "HOME"),
        (path(&project.dir), "PROJECT"),
    ];
    folders.extend(desired.shares.iter().map(|s| (path(&s.path), "SHARE")));
    let page = ReportPage {
        machine,
        facts,
        verdicts,
        denials: report_facts::denials(os, &desired.paths.base),
    };
    page.text(&PrivateWords::new(names, folders))
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
    session: Option<LaunchSession>,
) -> Result<(Vec<ProbeResult>, Vec<ReportFact>)> {
    let how = LaunchMode::Tried(ProbeRequest {
        by,
        question: Box::new(question.clone()),
        session,
    });
    // Some probes run unconfined, which the passwordless launcher never does.
    let mut asked = send_request(
        &LaunchTarget::for_project(project, desired).request(&[], how),
        elevate::start_role(Role::Launcher, true)?,
    )?;
    let (mut said, mut facts) = (Vec::new(), Vec::new());
    let in_session = session.unwrap_or_default();
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
        facts.extend(report::parse_fact(by, in_session, &line));
    }
    drop(asked.side.stdin);
    let status = asked.side.child.wait().context("wait for the launcher")?;
    if !status.success() || (said.is_empty() && facts.is_empty()) {
        return Err(Problem::new(format!(
            "the probes stopped early ({status}), so they prove nothing"
        ))
        .with_hint("run `comfy run --explain`; the lines above may say why"));
    }
    Ok((said, facts))
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
