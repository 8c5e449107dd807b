use std::path::PathBuf;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::{GlobalArgs, scan_pins};
use crate::host::scan;
use crate::host::scan::sources::{self, ScanUnit};
use crate::lock::RepositoryPin;
use crate::problem::{Context, EXIT_FINDINGS, Problem, ProblemKind, Result};
use crate::project::{self, ComfyProject};
use crate::render::bars::TerminalProgress;
use crate::render::plan_json::json_text;
use crate::render::scan_html::GroupDiff;
use crate::render::scan_text::{self, ScanGroup};
use crate::render::{self, scan_html, scan_json, scan_sarif};
use crate::review::changes::{self, FileNotes};
use crate::review::listing::PinFiles;
use crate::review::pins;
use crate::scan::acceptance;
use crate::scan::capabilities::Capabilities;
use crate::scan::finding::Severity;
use crate::scan::report::ScanReport;
use crate::text::{count_of, short_commit};

/// Show what code and model files can do, without running them
///
/// PATH is any folder or file: a node, a ComfyUI, a folder of models. Without one, the code that is
/// live on this machine is scanned. No manifest, no root and no network are needed for a PATH.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy scan                     the live code\n  comfy scan \
        ~/ComfyUI/custom_nodes/some-node\n  comfy scan ~/models            pickles in model files, \
        whatever their names\n  comfy scan . --format sarif > scan.sarif\n  comfy scan . --html \
        scan.html\n  comfy scan --new impact-pack   what it newly can do since it was \
        accepted\n\nExits with 2 if anything at or above --fail-on is found."
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
    /// Show what the pins of comfy.lock newly can do since they were last accepted [default: all]
    #[arg(long, value_name = "NODE", num_args = 0.., conflicts_with = "path")]
    new: Option<Vec<String>>,
    /// Ask no server; use only the cache
    #[arg(long, requires = "new")]
    offline: bool,
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
pub(super) enum FailOn {
    Low,
    Medium,
    High,
    Critical,
    Never,
}

impl FailOn {
    pub(super) fn is_reached(self, worst: Option<Severity>) -> bool {
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
    if let Some(names) = &args.new {
        return scan_new(global, args, names);
    }
    if args.format != ScanFormat::Text && global.json {
        return Err(Problem::new("--format and --json exclude each other")
            .with_hint(
                "`--format json` prints the scan alone; `--json` puts it into comfy's envelope",
            )
            .of_kind(ProblemKind::Usage));
    }
    let (units, title) = match &args.path {
        Some(path) => {
            let units = sources::units_of_path(path, false)?;
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
    if args.path.is_none() {
        leave_out_accepted(global, &mut parts, &title)?;
    }
    show_parts(global, args, &parts, &title, &[])
}

/// Of what is live, critical findings that somebody has accepted are counted, and not shown.
fn leave_out_accepted(
    global: &GlobalArgs,
    parts: &mut [(String, ScanReport)],
    title: &str,
) -> Result<()> {
    let project = ComfyProject::open(global)?;
    let Some((lock, _)) = &project.lock else {
        return Ok(());
    };
    let entries = &project.manifest.policy.accept;
    let mut accepted = 0;
    for (name, report) in parts {
        let prefix = match &**name {
            core if core == title => String::new(),
            node => format!("{}/{node}/", scan::NODES),
        };
        // As they were when they were accepted: relative to the part.
        let mut own = report.clone();
        for f in &mut own.findings {
            f.path = f.path.strip_prefix(&prefix).unwrap_or(&f.path).to_string();
            for step in &mut f.steps {
                let path = step.path.strip_prefix(&prefix).unwrap_or(&step.path);
                step.path = path.to_string();
            }
        }
        let part = if prefix.is_empty() { "comfyui" } else { name };
        let open = acceptance::open_criticals(part, &own, entries, &lock.acceptances);
        let open: Vec<_> = open.into_iter().map(|(_, print)| print).collect();
        let keep: Vec<bool> = own
            .findings
            .iter()
            .zip(own.bindings())
            .map(|(f, print)| f.severity != Severity::Critical || open.contains(&print))
            .collect();
        accepted += keep.iter().filter(|k| !**k).count();
        let mut keep = keep.into_iter();
        report.findings.retain(|_| keep.next().unwrap_or(true));
    }
    if accepted > 0 {
        render::print_note(&format!(
            "{} left out: somebody has accepted it.",
            count_of(accepted, "critical finding")
        ));
    }
    Ok(())
}

/// What the pins newly can do since they were last accepted.
fn scan_new(global: &GlobalArgs, args: &ScanArgs, names: &[String]) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let locked = scan_pins::locked_parts(&project, names)?;
    let git = project::git_store(&project, args.offline)?;
    let scanner = scan_pins::scanner_of(&git, &project)?;
    let scans: Vec<(String, Result<ScanReport>)> = locked
        .parts
        .par_iter()
        .map(|(name, pin)| (name.clone(), scanner.report_of(pin)))
        .collect();
    let (mut parts, mut diffs) = (Vec::new(), Vec::new());
    for ((name, report), (_, pin)) in scans.into_iter().zip(&locked.parts) {
        let report = report.map_err(|p| p.with_prefix(&format!("{name}: ")))?;
        let last = locked.lock.acceptances.reviews.get(&name);
        let accepted = last.map(|r| RepositoryPin {
            commit: r.commit,
            tree: r.tree,
            submodules: Vec::new(),
            excluded: Vec::new(),
            ..(*pin).clone()
        });
        let before = accepted.as_ref().and_then(|p| scanner.report_of(p).ok());
        let then = last.map_or_else(Capabilities::default, |r| {
            Capabilities::from_words(&r.capabilities)
        });
        let lines = Capabilities::of_report(&report).lines_since(&then);
        let new = match &before {
            Some(before) => pins::findings_since(&report, before),
            None => report,
        };
        if args.format == ScanFormat::Text && !lines.is_empty() {
            let since = last.map_or_else(
                || "nobody has accepted it yet".to_string(),
                |r| format!("since {}", short_commit(&r.commit.to_string())),
            );
            render::print_stdout(&format!("{name}, {since}:\n  {}", lines.join("\n  ")));
        }
        if let (Some(accepted), Some(_)) = (&accepted, &args.html) {
            let (old, now) = (
                PinFiles::of_pin(&git, accepted),
                PinFiles::of_pin(&git, pin),
            );
            if let (Ok(old), Ok(now)) = (old, now) {
                let text = changes::unified_text(&old, &now, &FileNotes::new());
                diffs.push((name.clone(), text));
            }
        }
        parts.push((name, new));
    }
    if args.format != ScanFormat::Text || global.json {
        // Programs get one list, in which a path says of which part it is.
        for (name, report) in &mut parts {
            for f in &mut report.findings {
                f.path = format!("{name}/{}", f.path);
            }
        }
    }
    let diffs: Vec<GroupDiff<'_>> = diffs
        .iter()
        .map(|(name, text)| GroupDiff { name, text })
        .collect();
    show_parts(global, args, &parts, "what is new", &diffs)
}

fn show_parts(
    global: &GlobalArgs,
    args: &ScanArgs,
    parts: &[(String, ScanReport)],
    title: &str,
    diffs: &[GroupDiff<'_>],
) -> Result<u8> {
    let groups: Vec<ScanGroup<'_>> = parts
        .iter()
        .map(|(name, report)| ScanGroup { name, report })
        .collect();
    let mut all = ScanReport::default();
    parts.iter().for_each(|(_, r)| all.extend(r.clone()));
    all.sort_worst_first();
    if let Some(file) = &args.html {
        let page = scan_html::scan_page(&groups, diffs, &format!("comfy scan: {title}"));
        std::fs::write(file, page).with_context(|| format!("write {}", file.display()))?;
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
    Ok((sources::units_of_path(&code, true)?, "the live code".into()))
}

fn group_name(unit: &ScanUnit, title: &str) -> String {
    let name = unit.prefix.trim_end_matches('/').rsplit('/').next();
    name.filter(|n| !n.is_empty())
        .map_or_else(|| title.to_string(), str::to_string)
}
