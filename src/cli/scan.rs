use std::path::{Path, PathBuf};

use super::GlobalArgs;
use crate::host::scan;
use crate::host::scan::sources::{self, ScanUnit};
use crate::problem::{Context, EXIT_FINDINGS, Problem, Result};
use crate::project::ComfyProject;
use crate::render::bars::TerminalProgress;
use crate::render::plan_json::json_text;
use crate::render::scan_text::{self, ScanGroup};
use crate::render::{self, scan_html, scan_json, scan_sarif};
use crate::scan::finding::Severity;
use crate::scan::report::ScanReport;

/// Show what code and model files can do, without running them
///
/// PATH is any folder or file: a node, a ComfyUI, a folder of models. Without one, the code that is
/// live on this machine is scanned. No manifest, no root and no network are needed for a PATH.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy scan                     the live code\n  comfy scan \
        ~/ComfyUI/custom_nodes/some-node\n  comfy scan ~/models            pickles in model files, \
        whatever their names\n  comfy scan . --format sarif > scan.sarif\n  comfy scan . --html \
        scan.html\n\nExits with 2 if anything at or above --fail-on is found."
)]
pub(crate) struct ScanArgs {
    /// The folder or file [default: the live code]
    path: Option<PathBuf>,
    /// The form of the output
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    format: ScanFormat,
    /// Write a page with filters to FILE
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The severity from which on the exit code is 2
    #[arg(long, value_enum, default_value = "critical", value_name = "SEVERITY")]
    fail_on: FailOn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ScanFormat {
    Text,
    Json,
    Sarif,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    Low,
    Medium,
    High,
    Critical,
    Never,
}

impl FailOn {
    fn is_reached(self, worst: Option<Severity>) -> bool {
        let from = match self {
            FailOn::Low => Severity::Low,
            FailOn::Medium => Severity::Medium,
            FailOn::High => Severity::High,
            FailOn::Critical => Severity::Critical,
            FailOn::Never => return false,
        };
        worst.is_some_and(|w| w >= from)
    }
}

pub(crate) fn run(global: &GlobalArgs, args: &ScanArgs) -> Result<u8> {
    let (units, title) = match &args.path {
        Some(path) => {
            let units = sources::units_of_path(path)?;
            (units, path.display().to_string())
        }
        None => live_units(global)?,
    };
    let reports = scan::scan_units(&units, &TerminalProgress::default())?;
    let mut parts: Vec<(String, ScanReport)> = units
        .iter()
        .map(|u| group_name(u, &title))
        .zip(reports)
        .collect();
    parts.iter_mut().for_each(|(_, r)| r.sort_worst_first());
    let groups: Vec<ScanGroup<'_>> = parts
        .iter()
        .map(|(name, report)| ScanGroup { name, report })
        .collect();
    let mut all = ScanReport::default();
    parts.iter().for_each(|(_, r)| all.extend(r.clone()));
    all.sort_worst_first();
    if let Some(file) = &args.html {
        write_page(file, &groups, &title)?;
    }
    match args.format {
        ScanFormat::Text if global.json => {
            render::json_output::set_data(&scan_json::report_value(&all));
        }
        ScanFormat::Text => {
            render::print_stdout(&scan_text::groups_text(&groups, global.verbose));
        }
        ScanFormat::Json => render::print_stdout(&json_text(&scan_json::report_value(&all))),
        ScanFormat::Sarif => render::print_stdout(&json_text(&scan_sarif::sarif_log(&all))),
    }
    Ok(if args.fail_on.is_reached(all.worst()) {
        EXIT_FINDINGS
    } else {
        0
    })
}

/// The live generation of the instance: it is read as it lies on the disk.
fn live_units(global: &GlobalArgs) -> Result<(Vec<ScanUnit>, String)> {
    let project = ComfyProject::open(global)?;
    let desired = super::desired_state(&project)?;
    let current = desired.paths.current_link();
    if !current.exists() {
        return Err(Problem::new("nothing is live on this machine").with_hint(
            "`comfy apply` installs what comfy.lock pins; `comfy scan PATH` scans any folder",
        ));
    }
    let code = current.join("ComfyUI");
    Ok((sources::units_of_path(&code)?, "the live code".into()))
}

fn group_name(unit: &ScanUnit, title: &str) -> String {
    let name = unit.prefix.trim_end_matches('/').rsplit('/').next();
    name.filter(|n| !n.is_empty())
        .map_or_else(|| title.to_string(), str::to_string)
}

fn write_page(file: &Path, groups: &[ScanGroup<'_>], title: &str) -> Result<()> {
    let page = scan_html::scan_page(groups, &[], &format!("comfy scan: {title}"));
    std::fs::write(file, page).with_context(|| format!("write {}", file.display()))
}
