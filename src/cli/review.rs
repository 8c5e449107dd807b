use std::io::IsTerminal;

use super::GlobalArgs;
use super::approval::confirm;
use super::scan_pins::{locked_parts, reviewer_name, scanner_of, write_acceptances};
use crate::host::git::{FetchDepth, GitStore};
use crate::host::scan::pins::PinScanner;
use crate::host::terminal;
use crate::lock::RepositoryPin;
use crate::lock::resolve::{CommitQuery, RepositoryResolver, SourceTexts};
use crate::lock::reviews::{AcceptanceKind, ReviewRecord};
use crate::problem::{Problem, ProblemKind, Result};
use crate::progress::NoProgress;
use crate::project::{self, ComfyProject};
use crate::render;
use crate::review::changes::{self, FileNotes};
use crate::review::listing::PinFiles;
use crate::review::{external, record};
use crate::scan::capabilities::Capabilities;
use crate::scan::report::ScanReport;
use crate::text::{count_of, escape_text, short_commit};
use crate::tree::ObjectId;

/// Read what changed in a node since it was last accepted, and record that you did
///
/// The diff has the scan's findings beside its lines. comfy.lock records who reviewed which tree;
/// with `review = "required"` in [policy], `apply` installs nothing else.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy review impact-pack\n  comfy review comfyui --show | less -R\n  \
        comfy review impact-pack --commit 0123…    one that `update` refused\n\n\
        With `reviewer = [\"program\", \"argument\"]` in [policy], that program reads the diff first, \
        confined,\nand what it says stands beside the lines too."
)]
pub(crate) struct ReviewArgs {
    /// The node, or `comfyui`
    #[arg(value_name = "NODE")]
    name: String,
    /// Only show it; record nothing
    #[arg(long)]
    show: bool,
    /// Record it without asking
    #[arg(short, long, conflicts_with = "show")]
    yes: bool,
    /// Show this commit in place of the pinned one, and what differs between the two
    #[arg(long, conflicts_with = "yes")]
    commit: Option<String>,
    /// Ask no server; use only the cache
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &ReviewArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let locked = locked_parts(&project, std::slice::from_ref(&args.name))?;
    let Some((name, pin)) = locked.parts.first() else {
        return Err(Problem::new("no node is named"));
    };
    let last = locked.lock.acceptances.reviews.get(name);
    let is_reviewed =
        last.is_some_and(|r| r.kind == AcceptanceKind::Review && r.content == pin.content_id());
    let only_shows = args.show || args.commit.is_some();
    if is_reviewed && !only_shows {
        render::print_note(&format!(
            "{name} {} is reviewed already; `--show` shows it again.",
            pin.short_name()
        ));
        return Ok(0);
    }
    let git = project::git_store(&project, args.offline)?;
    let scanner = PinScanner {
        depth: FetchDepth::Whole,
        ..scanner_of(&git, &project)?
    };
    let other = match &args.commit {
        Some(commit) => Some(pin_at(&git, pin, commit)?),
        None => None,
    };
    let pinned = *pin;
    let pin = other.as_ref().unwrap_or(pinned);
    let report = scanner.report_of(pin)?;
    // The accepted tree, where the server still has its commit.
    let accepted = last
        .filter(|r| r.content != pin.content_id())
        .map(|r| RepositoryPin {
            commit: r.commit,
            tree: r.tree,
            submodules: Vec::new(),
            excluded: Vec::new(),
            ..pinned.clone()
        });
    let before = accepted.or_else(|| {
        other.as_ref().map(|_| RepositoryPin {
            submodules: Vec::new(),
            ..pinned.clone()
        })
    });
    let before_report = before.as_ref().map(|b| scanner.report_of(b)).transpose();
    let (old, lost) = match (&before, before_report) {
        (Some(b), Ok(_)) => (PinFiles::of_pin(&git, b)?, None),
        (Some(_), Err(p)) => (PinFiles::none(), Some(p.message)),
        (None, _) => (PinFiles::none(), None),
    };
    let new = PinFiles::of_pin(&git, pin)?;
    let mut notes = changes::notes_of_findings(&report.findings, &new);
    if let Some(command) = &project.manifest.policy.reviewer {
        let diff = changes::unified_text(&old, &new, &FileNotes::new());
        for (path, more) in external::ask_reviewer(command, &diff)? {
            // As the diff names it.
            let plain = path
                .strip_prefix("b/")
                .filter(|_| new.identity_of(&path).is_none());
            let path = plain.map_or_else(|| path.clone(), str::to_string);
            notes.entry(path).or_default().extend(more);
        }
    }
    let head = head_text((name, pin), last, &report, lost.as_deref());
    let text = format!("{head}\n{}", changes::unified_text(&old, &new, &notes));
    render::json_output::set_data(&serde_json::json!({
        "part": name, "commit": pin.commit, "tree": pin.tree,
        "from": last.map(|r| r.commit), "changed": changes::changed_paths(&old, &new),
        "scan": render::scan_json::report_value(&report),
    }));
    let asks = !only_shows && !args.yes;
    if asks && !std::io::stdin().is_terminal() {
        return Err(
            Problem::new("cannot ask whether you reviewed it: stdin is not a terminal")
                .with_hint("`--show` only shows it; `--yes` records it without asking")
                .of_kind(ProblemKind::NotApproved),
        );
    }
    if !terminal::page_text(&text) {
        render::print_stdout(text.trim_end());
    }
    if only_shows {
        return Ok(0);
    }
    let question = format!(
        "\nRecord that you have reviewed {name} {}? Only \"yes\" is accepted: ",
        pin.short_name()
    );
    if asks && !confirm(&question)? {
        return Err(
            Problem::new("not recorded; nothing was changed").of_kind(ProblemKind::NotApproved)
        );
    }
    let mut lock = locked.lock.clone();
    let by = reviewer_name();
    record::accept_pin(&mut lock, name, pin, &report, (AcceptanceKind::Review, &by));
    write_acceptances(&project, &lock)?;
    render::print_note(&format!(
        "Recorded in comfy.lock that {by} reviewed {name} {}: commit it.",
        pin.short_name()
    ));
    Ok(0)
}

/// The pin of a node at another commit, such as one that `update` refused; without submodules, whose
/// commits nobody has looked up.
fn pin_at(git: &GitStore, pin: &RepositoryPin, commit: &str) -> Result<RepositoryPin> {
    if !pin.source().is_repository() {
        return Err(Problem::new(
            "--commit is for nodes of a git repository: this one comes from elsewhere",
        ));
    }
    let oid = ObjectId::parse(commit).ok_or_else(|| {
        Problem::new(format!("`{}` is no commit", escape_text(commit)))
            .with_hint("write all of its 40 digits, as `comfy outdated --json` does")
    })?;
    let snapshot = git.snapshot(
        &CommitQuery {
            repo: &pin.repo,
            git_ref: &pin.git_ref,
            commit: &oid,
            archive: None,
            exclude: &pin.exclusions(),
            requirements_files: &[],
            sources: SourceTexts::None,
        },
        &NoProgress,
    )?;
    if snapshot.gitmodules.is_some() {
        render::print_note("the submodules of that commit are not shown");
    }
    Ok(RepositoryPin {
        commit: oid,
        tree: snapshot.tree,
        submodules: Vec::new(),
        excluded: snapshot.excluded,
        ..pin.clone()
    })
}

/// What stands above the diff.
fn head_text(
    (name, pin): (&str, &RepositoryPin),
    last: Option<&ReviewRecord>,
    report: &ScanReport,
    lost: Option<&str>,
) -> String {
    let mut text = format!("{name} {}\n", pin.short_name());
    let now = Capabilities::of_report(report);
    match last {
        None => text += "Nobody has accepted it before: all of it is new.\n",
        Some(r) => {
            text += &format!(
                "Since {}, which {} accepted on {}:\n",
                short_commit(&r.commit.to_string()),
                escape_text(&r.by),
                escape_text(&r.at)
            );
        }
    }
    if let Some(why) = lost {
        text += &format!("The accepted commit cannot be had, so all of it is shown: {why}\n");
    }
    let then = last.map_or_else(Capabilities::default, |r| {
        Capabilities::from_words(&r.capabilities)
    });
    for line in now.lines_since(&then) {
        text += &format!("  {line}\n");
    }
    text + &format!(
        "Findings: {} in {}.\n",
        report.counts_text(),
        count_of(report.files, "file")
    )
}
