use std::io::{BufRead, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::Global;
use super::run::request;
use crate::doctor::probes::Question;
use crate::doctor::{By, Outcome, Said, Try, Verdict, judge, listening, parse};
use crate::host::elevate;
use crate::host::roles::Role;
use crate::launch::How;
use crate::launch::client::put;
use crate::plan::Desired;
use crate::problem::{Doing, EXIT_FINDINGS, Problem, Result};
use crate::project::Project;
use crate::records::running;
use crate::render::{self, Paint, paint};
use crate::text::escape;

/// Prove the isolation by trying to break it, as the sandbox user, bare and confined
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy doctor                needs root to become the sandbox user; \
        changes nothing that stays\n  comfy doctor --json\n\nExit code 2 if anything got through. \
        With ComfyUI running (`comfy start`) its port is tried as another user too."
)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    if !project.isolated() {
        return Err(Problem::new(
            "isolation = \"none\" keeps nobody from anything, so there is nothing to prove",
        )
        .hint("set isolation = \"account\" in [host]"));
    }
    let desired = project.desired()?;
    let port = running::read(&desired.paths)
        .and_then(|l| l.address.rsplit(':').next()?.parse().ok())
        .unwrap_or(0);
    let mut question = Question::of(&desired, &project.dir, port);
    let mark = format!("HOME={}", desired.owner.home.display());
    (question.owner_pid, question.mark) = (std::process::id(), mark);
    let _service = offer(&mut question)?;
    let mut said = Vec::new();
    for by in [By::Bare, By::Confined, By::Stranger] {
        said.extend(tried(&project, &desired, &question, by)?);
    }
    let verdicts = judge(&said);
    let broken = verdicts.iter().any(|v| v.outcome == Outcome::Broken);
    if args.json {
        render::stdout(&render::plan_json::text(
            &serde_json::json!({ "format_version": 1, "held": !broken, "probes": verdicts }),
        ));
    } else {
        render::stdout(text(&verdicts).trim_end());
        let count = |o: Outcome| verdicts.iter().filter(|v| v.outcome == o).count();
        render::note(&format!(
            "{} held, {} broken, {} could not be tried.",
            count(Outcome::Held),
            count(Outcome::Broken),
            count(Outcome::Untried)
        ));
    }
    Ok(if broken { EXIT_FINDINGS } else { 0 })
}

/// Services of the owner's that the sandbox must not reach; they end with this.
fn offer(q: &mut Question) -> Result<Vec<Box<dyn std::any::Any>>> {
    let what = || "offer a service to try".to_string();
    let tcp = TcpListener::bind(("127.0.0.1", 0)).doing(what)?;
    q.service = tcp.local_addr().doing(what)?.port();
    let mut held: Vec<Box<dyn std::any::Any>> = vec![Box::new(tcp)];
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = format!("comfy-doctor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).doing(what)?;
        held.push(Box::new(UnixListener::bind_addr(&address).doing(what)?));
        q.abstract_name = Some(name);
    }
    held.shrink_to_fit();
    Ok(held)
}

/// Has the launcher try, and hears what comes of it.
fn tried(project: &Project, desired: &Desired, question: &Question, by: By) -> Result<Vec<Said>> {
    let how = How::Tried(Try {
        by,
        question: Box::new(question.clone()),
    });
    // Some of it is tried without walls, which no launcher without a password does.
    let mut asked = put(
        &request(project, desired, &[], how),
        elevate::side(Role::Launcher, true)?,
    )?;
    let mut said = Vec::new();
    for line in asked.side.reader.lines().map_while(std::result::Result::ok) {
        if let Some(port) = listening(&line) {
            let (outcome, detail) = if greeted(port, &question.mark) {
                (Outcome::Broken, format!("port {port}"))
            } else {
                (Outcome::Held, String::new())
            };
            said.push(Said {
                by,
                id: "network.listen".into(),
                outcome,
                detail,
            });
        }
        said.extend(parse(by, &line));
    }
    drop(asked.side.stdin);
    let status = asked
        .side
        .child
        .wait()
        .doing(|| "wait for the launcher".into())?;
    if !status.success() || said.is_empty() {
        return Err(Problem::new(format!(
            "the tries ended early ({status}), so they prove nothing"
        ))
        .hint("run `comfy run --explain`; what stands above may say why"));
    }
    Ok(said)
}

/// Whether what listens there says our mark: another program may have that port outside.
fn greeted(port: u16, mark: &str) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut s) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) else {
        return false;
    };
    let _ = s.set_read_timeout(Some(Duration::from_millis(500)));
    let mut heard = vec![0; mark.len()];
    s.read_exact(&mut heard).is_ok() && heard == mark.as_bytes()
}

fn text(verdicts: &[Verdict]) -> String {
    let mut out = String::new();
    for v in verdicts {
        let word = match v.outcome {
            Outcome::Held => paint("held   ", Paint::Green),
            Outcome::Untried => paint("untried", Paint::Dim),
            Outcome::Broken => paint("BROKEN ", Paint::Red),
        };
        let tail = if v.outcome == Outcome::Untried {
            format!(" ({})", escape(&v.detail))
        } else {
            String::new()
        };
        out += &format!("{word}  {}{tail}\n", v.what);
        if let Some(mend) = v.mend {
            out += &format!("         {}\n         {mend}\n", escape(&v.detail));
        }
    }
    out
}
