use std::collections::HashMap;

use super::GlobalArgs;
use super::status_columns::LockStep;
use crate::history::LockRepository;
use crate::history::entry::HistoryEntry;
use crate::host::git::distance::KnownCommits;
use crate::lock::difference::LockDifference;
use crate::lock::{Lock, Sha256Digest};
use crate::problem::{Problem, Result};
use crate::project::{self, ComfyProject};
use crate::records::applied_locks::{self, LivePeriod};
use crate::render::{self, PaintStyle, paint};
use crate::text::{escape_text, short_commit};

/// List the commits of comfy.lock: what each changed, and when it was live on this machine
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy history\n  comfy history impact-pack   the commits that moved \
        it\n  comfy history -n 5 --json"
)]
pub(crate) struct HistoryArgs {
    /// A node, `comfyui`, `python`, a package, or a model's path [default: everything]
    #[arg(value_name = "NAME", add = super::completions::pin_names())]
    name: Option<String>,
    /// How many commits to list
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    number: usize,
    /// List all commits
    #[arg(long, conflicts_with = "number")]
    all: bool,
}

/// What `--json` prints of a commit.
#[derive(serde::Serialize)]
struct EntryJson {
    commit: String,
    /// RFC 3339.
    date: String,
    author: String,
    subject: String,
    /// What moved, in one line.
    summary: String,
    moved: Option<LockDifference>,
    live: Vec<LivePeriod>,
}

pub(crate) fn run(global: &GlobalArgs, args: &HistoryArgs) -> Result<u8> {
    let dir = project::manifest_folder(&global.project)?;
    let repository = LockRepository::open(&dir.join(project::MANIFEST), &project::lock_path(&dir))?;
    // A mistake in comfy.toml hides no history.
    let opened = ComfyProject::open(global).ok();
    let mut live = opened.as_ref().map_or_else(HashMap::new, read_live);
    if let Some(project) = &opened {
        note_unchanged(global, &repository, project, &mut live);
    }
    let number = if args.all { usize::MAX } else { args.number };
    if let (Some((lock, _)), None) = (opened.as_ref().and_then(|p| p.lock.as_ref()), &args.name)
        && !global.json
    {
        print_uncommitted(&repository, lock)?;
    }
    let is_isolated = opened.as_ref().is_none_or(ComfyProject::is_isolated);
    let known = super::plan::known_store(is_isolated).map(KnownCommits::of_store);
    let mut entries = repository.entries()?;
    let (mut found, mut more) = (Vec::new(), false);
    for entry in &mut entries {
        let mut entry = entry?;
        if let Some(name) = &args.name {
            match &entry.moved {
                Ok(Some(moved)) if !moved.about(name).is_empty() => {
                    entry.moved = Ok(Some(moved.about(name)));
                }
                _ => continue,
            }
        }
        if found.len() == number {
            more = true;
            break;
        }
        if let (Ok(Some(moved)), Some(known)) = (&mut entry.moved, &known) {
            moved.count_commits(|repo, old, new| known.count_between(repo, old, new));
        }
        let entry = EntryJson::new(entry, &mut live);
        if !global.json {
            render::print_stdout(&entry.text());
        }
        found.push(entry);
    }
    if global.json {
        render::json_output::set_data(&serde_json::json!({ "commits": found }));
        return Ok(0);
    }
    if found.is_empty() {
        return match &args.name {
            Some(name) => Err(Problem::new(format!(
                "no commit of comfy.lock moved {}",
                escape_text(name)
            ))
            .with_hint("names are nodes, `comfyui`, `python`, packages, and paths of models")),
            None => Err(
                Problem::new("comfy.lock is in no commit").with_hint(format!(
                    "commit it: {}",
                    repository.git_line("add comfy.lock && git commit -m \"Pin ComfyUI\"")
                )),
            ),
        };
    }
    if more {
        render::print_note("There are older ones: list them with -n N or --all.");
    } else if entries.is_shallow() {
        render::print_note("The repository is shallow: `git fetch --unshallow` brings older ones.");
    }
    Ok(0)
}

/// Returns when each comfy.lock was live here, by its hash.
fn read_live(project: &ComfyProject) -> HashMap<String, Vec<LivePeriod>> {
    let mut out = HashMap::<_, Vec<_>>::new();
    let Ok(paths) = project.instance_paths() else {
        return out;
    };
    match applied_locks::live_periods(&paths) {
        Ok(periods) => {
            for period in periods {
                out.entry(period.lock.clone()).or_default().push(period);
            }
        }
        Err(e) => render::print_warning(&format!(
            "when a commit was live is not known: could not read {}: {e}",
            paths.audit_log().display()
        )),
    }
    out
}

/// Commits that moved nothing of this machine, at most.
const UNCHANGED: usize = 64;

/// An apply that has nothing to change leaves no line in the log, and its comfy.lock is live all the
/// same: from its commit on, this machine is in step with it, and no model has moved since the lock
/// that the log names.
fn note_unchanged(
    global: &GlobalArgs,
    repository: &LockRepository,
    project: &ComfyProject,
    live: &mut HashMap<String, Vec<LivePeriod>>,
) {
    let (Some((_, text)), Ok(paths)) = (&project.lock, project.instance_paths()) else {
        return;
    };
    let digest = Sha256Digest::digest_of(text.as_bytes()).to_string();
    let last = live.values_mut().flatten().find(|p| p.until.is_none());
    let Some(last) = last.filter(|p| p.lock != digest) else {
        return;
    };
    let Ok(entries) = repository.entries() else {
        return;
    };
    let mut committed = None;
    for entry in entries.take(UNCHANGED).map_while(Result::ok) {
        if entry.digest.as_ref() == Some(&last.lock) {
            break;
        }
        let is_of_models = |moved: &LockDifference| !moved.models.is_empty();
        match &entry.moved {
            Ok(Some(moved)) if !is_of_models(moved) => {}
            _ => return,
        }
        if committed.is_none() && entry.digest.as_ref() != Some(&digest) {
            return;
        }
        committed.get_or_insert(local_date(&entry.commit.time).to_utc());
    }
    let step = LockStep::read(global, &paths);
    let (Some(committed), true) = (committed, step.is_some_and(|s| s.is_in_step())) else {
        return;
    };
    let applied = chrono::DateTime::parse_from_rfc3339(&last.since).map(|t| t.to_utc());
    let since = applied.map_or(committed, |applied| applied.max(committed));
    let since = since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    last.until = Some(since.clone());
    let period = LivePeriod {
        lock: digest.clone(),
        since,
        until: None,
    };
    live.entry(digest).or_default().push(period);
}

/// Shows what comfy.lock has beyond HEAD.
fn print_uncommitted(repository: &LockRepository, lock: &Lock) -> Result<()> {
    let Some(blob) = repository.lock_of_head()? else {
        return Ok(());
    };
    let text = repository.text_of(blob)?.into();
    let Ok(head) = Lock::parse(std::path::Path::new(crate::lock::FILE), &text) else {
        return Ok(());
    };
    let moved = LockDifference::between(Some(&head), lock);
    if !moved.is_empty() {
        render::print_stdout(&format!(
            "{}  not committed\n         {}",
            paint("-------", PaintStyle::Yellow),
            moved.summary()
        ));
    }
    Ok(())
}

impl EntryJson {
    /// Takes the periods of the commit from `live`; those that ended before it are an older commit's
    /// of the same content.
    fn new(entry: HistoryEntry, live: &mut HashMap<String, Vec<LivePeriod>>) -> EntryJson {
        let commit = entry.commit;
        let summary = match &entry.moved {
            Ok(Some(moved)) if moved.is_empty() => "no pin moved".to_string(),
            Ok(Some(moved)) => moved.summary(),
            Ok(None) => "comfy.lock was removed".into(),
            Err(p) => format!("could not be read: {}", p.message),
        };
        let began = commit.time.seconds();
        let mut periods = Vec::new();
        if let Some(all) = entry.digest.and_then(|d| live.get_mut(&d)) {
            periods = all.extract_if(.., |p| p.lasted_until(began)).collect();
        }
        EntryJson {
            commit: commit.id.to_string(),
            date: local_date(&commit.time).to_rfc3339(),
            author: commit.author,
            subject: commit.subject,
            summary,
            moved: entry.moved.ok().flatten(),
            live: periods,
        }
    }

    fn text(&self) -> String {
        let date = self.date.get(..10).unwrap_or_default();
        let mut out = format!(
            "{}  {date}  {}  {}\n         {}",
            paint(short_commit(&self.commit), PaintStyle::Yellow),
            escape_text(&self.author),
            escape_text(&self.subject),
            escape_text(&self.summary)
        );
        for period in &self.live {
            out += &match &period.until {
                None => format!("\n         live here since {}", minute(&period.since)),
                Some(until) => format!(
                    "\n         live here {} to {}",
                    minute(&period.since),
                    minute(until)
                ),
            };
        }
        out
    }
}

/// Returns the time in the zone of whoever committed.
pub(super) fn local_date(time: &git2::Time) -> chrono::DateTime<chrono::FixedOffset> {
    let zone = chrono::FixedOffset::east_opt(time.offset_minutes() * 60);
    let zone = zone.unwrap_or_else(|| chrono::Offset::fix(&chrono::Utc));
    let utc = chrono::DateTime::from_timestamp(time.seconds(), 0).unwrap_or_default();
    utc.with_timezone(&zone)
}

/// `2026-11-25 14:03`, on this machine's clock.
fn minute(rfc3339: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(rfc3339) {
        Ok(time) => {
            let local = time.with_timezone(&chrono::Local);
            local.format("%Y-%m-%d %H:%M").to_string()
        }
        Err(_) => escape_text(rfc3339),
    }
}
