use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::GlobalArgs;
use super::scan_pins::{locked_parts, reviewer_name, scanner_of, write_acceptances};
use crate::host::git::FetchDepth;
use crate::host::scan::pins::PinScanner;
use crate::lock::reviews::AcceptanceKind;
use crate::problem::{Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::review::record;
use crate::scan::finding::Severity;
use crate::text::count_of;

/// Accept what the pinned code can do as it is, without a review
///
/// From then on `scan --new` compares with it, and under `scan = "block"` only what is new since
/// then blocks. comfy.lock records who accepted which tree.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy accept --all          the present state, once\n  comfy accept \
        impact-pack\n\n`comfy review NODE` shows what changed before it asks."
)]
pub(crate) struct AcceptArgs {
    /// Nodes, or `comfyui`
    #[arg(value_name = "NODE", required_unless_present = "all")]
    names: Vec<String>,
    /// Every part of comfy.lock
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Ask no server; use only the cache
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &AcceptArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let locked = locked_parts(&project, &args.names)?;
    let git = project::git_store(&project, args.offline)?;
    let scanner = PinScanner {
        depth: FetchDepth::Whole,
        ..scanner_of(&git, &project)?
    };
    let by = reviewer_name();
    let reports: Vec<_> = locked
        .parts
        .par_iter()
        .map(|(name, pin)| (name, *pin, scanner.report_of(pin)))
        .collect();
    let mut lock = locked.lock.clone();
    let (mut problems, mut data) = (Vec::new(), Vec::new());
    for (name, pin, report) in reports {
        let report = match report {
            Ok(report) => report,
            Err(p) => {
                problems.push(p.with_prefix(&format!("{name}: ")));
                continue;
            }
        };
        record::accept_pin(&mut lock, name, pin, &report, (AcceptanceKind::Accept, &by));
        let critical = report
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Critical)
            .count();
        data.push(serde_json::json!({ "part": name, "tree": pin.tree, "critical": critical }));
        render::print_stdout(&format!(
            "Accepted {name} {}: {}",
            pin.short_name(),
            report.counts_text()
        ));
    }
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    write_acceptances(&project, &lock)?;
    render::json_output::set_data(&serde_json::json!({ "accepted": data }));
    render::print_note(&format!(
        "Recorded {} in comfy.lock: commit it.",
        count_of(locked.parts.len(), "part")
    ));
    Ok(0)
}
