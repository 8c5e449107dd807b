use super::Global;
use crate::desired::Desired;
use crate::host::process;
use crate::host::sandbox_state::Kept;
use crate::launch::log_writer::Status;
use crate::manifest::Isolation;
use crate::problem::Result;
use crate::project::Project;
use crate::records::running::{self, Live};
use crate::render;
use crate::text::{bytes, escape};

/// What runs: since when, where, which generation, which nodes, how much memory
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy status\n  comfy status --json")]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Report {
    format_version: u32,
    running: bool,
    pid: Option<u32>,
    since: Option<String>,
    uptime_seconds: Option<i64>,
    address: Option<String>,
    generation: Option<String>,
    /// Code, packages or the way of launching moved since.
    restart_due: bool,
    ready: Option<bool>,
    nodes: Vec<String>,
    failed: Vec<(String, String)>,
    /// Of all its processes, in bytes.
    memory: Option<u64>,
    last: Option<running::Ended>,
    /// What ComfyUI's libraries have downloaded, in bytes, as the last launch or apply found it.
    downloads: u64,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let desired = Project::open(global)?.desired()?;
    let report = look(&desired);
    let mut said = if args.json {
        render::plan_json::text(&report)
    } else {
        text(&report)
    };
    if !args.json && report.downloads > 0 {
        said += &format!(
            "\nkept        {} that libraries downloaded, in {}",
            bytes(report.downloads),
            desired.paths.state_of("downloads").display()
        );
    }
    render::stdout(&said);
    Ok(0)
}

fn look(d: &Desired) -> Report {
    let live = running::read(&d.paths);
    let status = live
        .as_ref()
        .filter(|l| l.detached)
        .map(|_| Status::read(&d.paths));
    let since = live
        .as_ref()
        .and_then(|l| chrono::DateTime::parse_from_rfc3339(&l.since).ok());
    Report {
        format_version: 1,
        running: live.is_some(),
        pid: live.as_ref().map(|l| l.pid),
        uptime_seconds: since.map(|s| (chrono::Utc::now() - s.to_utc()).num_seconds()),
        since: live.as_ref().map(|l| l.since.clone()),
        address: live.as_ref().map(|l| l.address.clone()),
        generation: live.as_ref().map(|l| l.generation.clone()),
        restart_due: live.as_ref().is_some_and(|l| due(d, l)),
        ready: status.as_ref().map(|s| s.ready.is_some()),
        nodes: live.as_ref().map(|l| l.nodes.clone()).unwrap_or_default(),
        failed: status.map(|s| s.failed).unwrap_or_default(),
        // Under isolation "none" the owner's other programs have the same uid.
        memory: live
            .as_ref()
            .filter(|_| d.isolation == Isolation::Account)
            .and_then(|_| {
                let user = nix::unistd::User::from_name(&d.sandbox).ok().flatten()?;
                process::memory_of(user.uid.as_raw())
            }),
        last: if live.is_none() {
            running::last(&d.paths)
        } else {
            None
        },
        downloads: Kept::read(&d.paths).bytes,
    }
}

/// Another generation is live, or it would be launched otherwise now.
fn due(d: &Desired, l: &Live) -> bool {
    let other = std::fs::read_link(d.paths.current())
        .is_ok_and(|t| t.as_os_str() != format!("gen/{}", l.generation).as_str());
    let spec = std::fs::read(d.paths.launch())
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok());
    other || spec.is_some_and(|s| running::digest(&s) != l.launch)
}

fn text(r: &Report) -> String {
    let (Some(pid), Some(address), Some(generation)) = (r.pid, &r.address, &r.generation) else {
        return match &r.last {
            Some(e) if e.asked => {
                format!("ComfyUI does not run; it was ended at {}.", escape(&e.when))
            }
            Some(e) => format!(
                "ComfyUI does not run; it ended by itself with {} at {} (`comfy logs`).",
                running::code(e.code),
                escape(&e.when)
            ),
            None => "ComfyUI does not run.".into(),
        };
    };
    let up = r.uptime_seconds.unwrap_or(0);
    let time = if up < 120 {
        format!("{up} s")
    } else if up < 7200 {
        format!("{} min", up / 60)
    } else {
        format!("{} h {} min", up / 3600, up / 60 % 60)
    };
    let mut out = format!(
        "running     process {pid}, for {time}\naddress     {}\ngeneration  {}",
        escape(address),
        escape(generation)
    );
    if r.restart_due {
        out += "  (a restart is due: `comfy restart`)";
    }
    out += &match r.ready {
        Some(true) => format!(
            "\nnodes       {} of {} loaded",
            r.nodes.len().saturating_sub(r.failed.len()),
            r.nodes.len()
        ),
        Some(false) => "\nnodes       not ready yet".into(),
        None => format!(
            "\nnodes       {} (it runs in a terminal, which shows them)",
            r.nodes.len()
        ),
    };
    for (node, why) in &r.failed {
        out += &format!(
            "\n            node.{} failed to import: {}",
            escape(node),
            escape(why)
        );
    }
    if let Some(m) = r.memory {
        out += &format!("\nmemory      {}", bytes(m));
    }
    out
}
