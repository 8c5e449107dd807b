use super::GlobalArgs;
use super::bisect_files::UnfinishedBisect;
use super::status_columns::{CodeHealth, LockStep, columns_text};
use super::target::LaunchTarget;
use crate::desired::InstancePaths;
use crate::host::process;
use crate::host::sandbox_state::KeptDownloads;
use crate::ids::GenerationId;
use crate::launch::log_writer::LogStatus;
use crate::problem::Result;
use crate::records::running::{self, RunningRecord};
use crate::render;
use crate::text::{escape_text, format_bytes};

/// Show what is running, whether it is what comfy.lock pins, and whether it loads
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy status\n  comfy status --json")]
pub(crate) struct StatusArgs {}

/// What `--json` prints.
#[derive(Debug, serde::Serialize)]
struct StatusReport {
    running: bool,
    pid: Option<u32>,
    since: Option<String>,
    uptime_seconds: Option<i64>,
    address: Option<String>,
    generation: Option<String>,
    /// Code, packages or launch settings have changed since the launch.
    restart_due: bool,
    ready: Option<bool>,
    nodes: Vec<String>,
    failed: Vec<(String, String)>,
    /// The memory of all its processes, in bytes.
    memory: Option<u64>,
    last: Option<running::ExitRecord>,
    /// Whether the live generation is what comfy.lock asks for; `None`: not known.
    lock: Option<LockStep>,
    /// What loading it showed; `None`: it was not loaded yet.
    health: Option<CodeHealth>,
    /// The size of what ComfyUI's libraries have downloaded, in bytes, as the last launch or apply
    /// measured it.
    downloads: u64,
}

pub(crate) fn run(global: &GlobalArgs, _: &StatusArgs) -> Result<u8> {
    let target = LaunchTarget::open_applied(global)?;
    let mut report = read_status(&target);
    report.lock = LockStep::read(global, &target.paths);
    render::json_output::set_data(&report);
    let mut said = report_text(&report);
    said += &columns_text(&target.paths, report.lock.as_ref(), report.health.as_ref());
    if report.downloads > 0 {
        said += &format!(
            "\nkept        {} that libraries downloaded, in {}",
            format_bytes(report.downloads),
            target.paths.state_of("downloads").display()
        );
    }
    render::print_stdout(&said);
    if UnfinishedBisect::find(&target.paths, &target.instance).is_some() {
        render::print_warning(
            "a bisect was interrupted, and this machine has what it tried last: `comfy bisect \
             --reset` goes back to comfy.lock",
        );
    }
    Ok(0)
}

fn read_status(d: &LaunchTarget) -> StatusReport {
    let live = running::read_running(&d.paths);
    let status = live
        .as_ref()
        .filter(|l| l.detached)
        .map(|_| LogStatus::read(&d.paths));
    let since = live
        .as_ref()
        .and_then(|l| chrono::DateTime::parse_from_rfc3339(&l.since).ok());
    StatusReport {
        running: live.is_some(),
        pid: live.as_ref().map(|l| l.pid),
        uptime_seconds: since.map(|s| (chrono::Utc::now() - s.to_utc()).num_seconds()),
        since: live.as_ref().map(|l| l.since.clone()),
        address: live.as_ref().map(|l| l.address.clone()),
        generation: live.as_ref().map(|l| l.generation.clone()),
        restart_due: live.as_ref().is_some_and(|l| restart_due(&d.paths, l)),
        ready: status.as_ref().map(|s| s.ready.is_some()),
        lock: None,
        health: CodeHealth::read(&d.paths, live.as_ref().map(|l| (l, status.as_ref()))),
        nodes: live.as_ref().map(|l| l.nodes.clone()).unwrap_or_default(),
        failed: status.map(|s| s.failed).unwrap_or_default(),
        // Under isolation "none", the owner's other programs have the same uid.
        memory: live.as_ref().filter(|_| d.is_isolated).and_then(|_| {
            let user = nix::unistd::User::from_name(&d.instance).ok().flatten()?;
            process::memory_of(user.uid.as_raw())
        }),
        last: if live.is_none() {
            running::last_exit(&d.paths)
        } else {
            None
        },
        downloads: KeptDownloads::read(&d.paths).bytes,
    }
}

/// Returns whether another generation is live, or a launch would now be different.
pub(crate) fn restart_due(paths: &InstancePaths, l: &RunningRecord) -> bool {
    let other = std::fs::read_link(paths.current_link())
        .is_ok_and(|t| GenerationId::from_link(&t).as_deref() != Some(&*l.generation));
    let spec = std::fs::read(paths.launch_record())
        .ok()
        .and_then(|b| serde_json::from_slice(&b).ok());
    other || spec.is_some_and(|s| running::launch_digest(&s) != l.launch)
}

fn report_text(r: &StatusReport) -> String {
    let (Some(pid), Some(address), Some(generation)) = (r.pid, &r.address, &r.generation) else {
        return match &r.last {
            Some(e) if e.asked => {
                format!(
                    "ComfyUI is not running; it was stopped at {}.",
                    escape_text(&e.when)
                )
            }
            Some(e) => format!(
                "ComfyUI is not running; it exited with {} at {} (see `comfy logs`).",
                running::exit_text(e.code),
                escape_text(&e.when)
            ),
            None => "ComfyUI is not running.".into(),
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
        escape_text(address),
        escape_text(generation)
    );
    if r.restart_due {
        out += "  (restart needed: `comfy restart`)";
    }
    out += &match r.ready {
        Some(true) => format!(
            "\nnodes       {} of {} loaded",
            r.nodes.len().saturating_sub(r.failed.len()),
            r.nodes.len()
        ),
        Some(false) => "\nnodes       not ready yet".into(),
        None => format!(
            "\nnodes       {} (ComfyUI runs in a terminal, which shows them)",
            r.nodes.len()
        ),
    };
    for (node, why) in &r.failed {
        out += &format!(
            "\n            node.{} failed to import: {}",
            escape_text(node),
            escape_text(why)
        );
    }
    if let Some(m) = r.memory {
        out += &format!("\nmemory      {}", format_bytes(m));
    }
    out
}
