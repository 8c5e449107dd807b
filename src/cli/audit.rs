use super::GlobalArgs;
use super::audit_findings::{self, Audit};
use super::audit_history::{self, PastFinding};
use super::audit_sources;
use super::scan::FailOn;
use crate::advisory::finding::{AuditFinding, FindingKind};
use crate::problem::{EXIT_FINDINGS, Result};
use crate::project::ComfyProject;
use crate::render::{self, PaintStyle, paint};
use crate::scan::finding::Severity;
use crate::text::{count_of, escape_text};

/// Compare what comfy.lock pins with known advisories: malware, vulnerabilities, banned versions
///
/// Packages are compared by `uv audit` with a service that speaks OSV's API; ComfyUI, nodes and
/// models with a table that comfy brings along; nodes of the registry with what it says of them now.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy audit                    what is pinned now\n  comfy audit \
        --offline          with the answers of the last time\n  comfy audit --history          also \
        what was pinned once, and when it was live here\n  comfy audit --sources          also \
        whether the code of packages is in their repositories\n  comfy audit --advisories \
        https://example.com/nodes.json#sha256=…\n\nExits with 2 if anything at or above --fail-on is \
        found. Malware and banned versions are critical;\na vulnerability of a package is high, since \
        uv does not tell how bad it is. Packages that were never compared, since the service did not\nanswer, count as critical."
)]
pub(crate) struct AuditArgs {
    /// Ask no server; use the answers that were kept
    #[arg(long)]
    offline: bool,
    /// Also look at every comfy.lock that was ever committed
    #[arg(long)]
    history: bool,
    /// Also compare the Python in the wheels with the repositories that the packages name; of these
    /// packages, or of all
    #[arg(long, value_name = "PACKAGE", num_args = 0.., conflicts_with = "offline")]
    sources: Option<Vec<String>>,
    /// Advisories in OSV's schema in place of comfy's own table: a file, or an address that ends in
    /// #sha256=…
    #[arg(long, value_name = "FILE|URL")]
    advisories: Option<String>,
    /// The severity from which on the exit code is 2
    #[arg(long, value_enum, default_value = "critical", value_name = "SEVERITY")]
    fail_on: FailOn,
}

pub(crate) fn run(global: &GlobalArgs, args: &AuditArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let (lock, _) = project.locked()?;
    let table = audit_findings::load_table(args.advisories.as_deref())?;
    let mut audit = audit_findings::audit_lock(&project, lock, &table, args.offline)?;
    let sources = match &args.sources {
        Some(names) => Some(audit_sources::compare_sources(&project, lock, names)?),
        None => None,
    };
    let compared = sources.as_ref().map(|s| s.compared);
    if let Some(sources) = sources {
        audit.findings.extend(sources.findings);
        audit.notes.extend(sources.notes);
        AuditFinding::merge_duplicates(&mut audit.findings);
    }
    let past = match args.history {
        true => audit_history::past_findings(&project, &table, args.offline)?,
        false => Vec::new(),
    };
    render::json_output::set_data(&serde_json::json!({
        "findings": audit.findings,
        "history": args.history.then_some(&past),
        "packages": audit.packages,
        "sources": compared.map(|n| serde_json::json!({ "compared": n })),
        "table": { "origin": table.origin, "advisories": table.advisories.len() },
        "notes": audit.notes,
    }));
    for note in &audit.notes {
        render::print_note(note);
    }
    if !global.json {
        render::print_stdout(audit_text(&audit, &table.origin).trim_end());
        if let Some(n) = compared {
            let n = count_of(n, "package");
            render::print_stdout(&format!("Repositories: the Python of {n} was compared."));
        }
        if args.history {
            render::print_stdout(&format!("\n{}", past_text(&past)));
        }
    }
    let worst = audit.findings.iter().map(|f| f.severity).max();
    let worst = worst.max(past.iter().map(|p| p.finding.severity).max());
    // What nobody was ever asked of may be anything.
    let worst = worst.max(audit.packages.has_unknown().then_some(Severity::Critical));
    Ok(if args.fail_on.is_reached(worst) {
        EXIT_FINDINGS
    } else {
        0
    })
}

/// The kinds in the order in which they are told, with their headings.
const HEADINGS: [(FindingKind, &str); 6] = [
    (FindingKind::Malware, "Malware"),
    (FindingKind::Banned, "Banned"),
    (FindingKind::Vulnerability, "Vulnerabilities"),
    (FindingKind::Status, "Not maintained, or flagged"),
    (FindingKind::Name, "Names that look like others"),
    (FindingKind::Source, "Not as in their repositories"),
];

fn audit_text(audit: &Audit, table: &str) -> String {
    let mut out = String::new();
    for (kind, heading) in HEADINGS {
        let of_kind = || audit.findings.iter().filter(move |f| f.kind == kind);
        if of_kind().next().is_none() {
            continue;
        }
        out += &format!("{}\n", paint(heading, PaintStyle::Bold));
        for finding in of_kind() {
            out += &finding_text(finding);
        }
        out.push('\n');
    }
    let count = |severity: Severity| {
        let n = audit
            .findings
            .iter()
            .filter(|f| f.severity == severity)
            .count();
        (n > 0).then(|| format!("{n} {severity}"))
    };
    let counts: Vec<String> = Severity::ALL
        .iter()
        .rev()
        .copied()
        .filter_map(count)
        .collect();
    out += &match &counts[..] {
        [] => audit.packages.nothing_text().to_string(),
        counts => format!(
            "{}: {}.",
            count_of(audit.findings.len(), "finding"),
            counts.join(", ")
        ),
    };
    out += &format!("\n{}\nNodes and ComfyUI: {table}.", audit.packages.text());
    out
}

fn finding_text(f: &AuditFinding) -> String {
    let id = f.id_text();
    let gap = if id.is_empty() { "" } else { "  " };
    let mut out = format!(
        "  {}  {}{gap}{id}\n",
        severity_word(f.severity),
        paint(&f.subject.text(), PaintStyle::Bold),
    );
    if let Some(why) = &f.uncertain {
        out += &format!("      not certain: {}\n", escape_text(why));
    }
    let summary = escape_text(f.summary.trim());
    let more: Vec<String> = [f.fixed_text(), f.by_text()]
        .into_iter()
        .flatten()
        .collect();
    let link = f.link.as_deref().map(escape_text);
    for line in [Some(summary), f.traces_text(), Some(more.join("; ")), link] {
        out.extend(
            line.filter(|l| !l.is_empty())
                .map(|l| format!("      {l}\n")),
        );
    }
    out
}

fn severity_word(severity: Severity) -> String {
    let style = match severity {
        Severity::Critical | Severity::High => PaintStyle::Red,
        Severity::Medium => PaintStyle::Yellow,
        Severity::Low => PaintStyle::Bold,
    };
    paint(&format!("{severity:8}"), style)
}

fn past_text(past: &[PastFinding]) -> String {
    if past.is_empty() {
        return "Nothing is known against what earlier commits of comfy.lock pinned.".into();
    }
    let mut out = paint("Earlier commits of comfy.lock", PaintStyle::Bold);
    for p in past {
        out += &format!(
            "\n  {}  {}\n      {}",
            severity_word(p.finding.severity),
            p.finding.line(),
            p.text()
        );
    }
    out
}
