use super::GlobalArgs;
use super::bisect_files::UnfinishedBisect;
use super::bisect_try::{Judge, TryRunner};
use crate::bisect::mixture::{LockState, Row, Unit};
use crate::bisect::{NextStep, PrefixSearch, Verdict};
use crate::history::LockRepository;
use crate::lock::{self, Lock};
use crate::problem::{Problem, Result};
use crate::project::{ComfyProject, MANIFEST};
use crate::render;
use crate::text::{count_of, escape_text};

/// Find the node or the pin that breaks ComfyUI, by halves
///
/// Each half is applied and judged by CMD, or else by whether everything loads; then the machine
/// goes back to where it was. comfy.toml and comfy.lock stay as they are.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy bisect                which node keeps ComfyUI from loading \
        everything\n  comfy bisect -- ./render-test.sh\n                              which node \
        breaks a test of yours: exit code 0 is good, 125 cannot\n                              be \
        judged, any other is bad\n  comfy bisect --good HEAD~3  which pin that moved since then\n  \
        comfy bisect --reset        goes back after a bisect that was killed"
)]
pub(crate) struct BisectArgs {
    /// Search among the pins that moved since this commit, at which all was well [default: among
    /// the enabled nodes]
    #[arg(long, value_name = "REV")]
    good: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Go back to comfy.lock after a bisect that was killed
    #[arg(long, conflicts_with_all = ["good", "command"])]
    reset: bool,
    /// What judges: it starts ComfyUI itself, with `comfy start` or `comfy run`
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn run(global: &GlobalArgs, args: &BisectArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    super::announce_isolation(&project);
    if nix::unistd::geteuid().is_root() && project.is_isolated() {
        let owner = project.owner()?.name;
        return Err(Problem::new(
            "do not run this as root: it runs your command, and reads your repository",
        )
        .with_hint(format!(
            "run it as {owner}: only the applies need root, and ask for it"
        )));
    }
    let desired = super::desired_state(&project)?;
    let unfinished = UnfinishedBisect::find(&desired.paths, &desired.sandbox);
    if args.reset && unfinished.is_none() {
        render::print_note("There is no unfinished bisect.");
        return Ok(0);
    }
    if unfinished.is_some() {
        render::print_note("A bisect was interrupted: going back to comfy.lock first.");
        TryRunner::new(global, &project, &desired, Judge::Loading)?.go_back()?;
        if args.reset {
            return Ok(0);
        }
    }
    let row = make_row(&project, args)?;
    let judge = match args.command.is_empty() {
        true => Judge::Loading,
        false => Judge::Command(args.command.clone()),
    };
    let mut runner = TryRunner::new(global, &project, &desired, judge)?;
    runner.ensure_ready()?;
    let tries = PrefixSearch::new(row.units.len()).tries_left();
    let what = match args.good {
        Some(_) => count_of(row.units.len(), "moved pin"),
        None => count_of(row.units.len(), "enabled node"),
    };
    render::print_note(&format!(
        "Searching {what}: at most {} beside 2 to begin with. Each half is applied here; then this \
         machine goes back to comfy.lock.",
        count_of(tries as usize + 1, "start")
    ));
    if !args.yes {
        super::approval::ask_to_go_on("bisect")?;
    }
    let found = search(&mut runner, &row);
    // Whatever happened, and also after Ctrl-C.
    let back = runner.go_back();
    render::json_output::set_data(&serde_json::json!({
        "finding": found.as_ref().ok(),
        "tries": runner.tries,
        "starts": runner.starts,
        "back_at_lock": back.is_ok(),
    }));
    let told = match (found, back) {
        (Ok(finding), Ok(())) => finding.text,
        (Ok(finding), Err(p)) => {
            render::print_stdout(&finding.text);
            return Err(p);
        }
        (Err(p), Ok(())) => return Err(p.with_hint("this machine is back at comfy.lock")),
        (Err(p), Err(back)) => return Err(Problem::from_many(vec![p, back])),
    };
    render::print_stdout(&told);
    render::print_note(&format!(
        "{}; this machine is back at comfy.lock.",
        count_of(runner.starts, "start")
    ));
    Ok(0)
}

/// What was found, as `--json` tells it.
#[derive(serde::Serialize)]
struct BisectFinding {
    /// What breaks it: `node.NAME`, `comfyui`, `python`, or a package.
    breaks: Option<String>,
    /// What it breaks only together with: one of these.
    together_with: Vec<String>,
    /// Where it is not known which of them breaks it.
    one_of: Vec<String>,
    text: String,
}

impl BisectFinding {
    fn at(row: &Row, place: usize, text: String) -> BisectFinding {
        BisectFinding {
            breaks: Some(row.units[place].name()),
            together_with: Vec::new(),
            one_of: Vec::new(),
            text,
        }
    }
}

fn make_row(project: &ComfyProject, args: &BisectArgs) -> Result<Row> {
    let (lock, _) = project.locked()?;
    let now = LockState {
        manifest: project.manifest.source.text.to_string(),
        lock: lock.clone(),
    };
    let Some(rev) = &args.good else {
        let row = Row::of_nodes(&project.manifest, now);
        return match row.units.is_empty() {
            true => Err(Problem::new("comfy.toml has no enabled node")
                .with_hint("to search among pins, use --good REV")),
            false => Ok(row),
        };
    };
    let repository = LockRepository::open(&project.dir.join(MANIFEST), &project.lock_path)?;
    let committed = repository.files_of(repository.find_commit(rev)?)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let earlier = committed.lock.map(text).ok_or_else(|| {
        Problem::new(format!("commit {} has no comfy.lock", escape_text(rev)))
            .with_hint("`comfy history` lists the commits of comfy.lock")
    })?;
    let good = LockState {
        manifest: committed
            .manifest
            .map_or_else(|| now.manifest.clone(), text),
        lock: Lock::parse(std::path::Path::new(lock::FILE), &earlier.into())
            .map_err(|p| p.with_prefix(&format!("{}: ", escape_text(rev))))?,
    };
    let row = Row::of_pins(good, now);
    match row.units.is_empty() {
        true => Err(Problem::new(format!(
            "no pin of a repository or package moved since {}",
            escape_text(rev)
        ))
        .with_hint("`comfy history` lists what moved when")),
        false => Ok(row),
    }
}

/// Finds the place in the row, and says what is there.
fn search(runner: &mut TryRunner, row: &Row) -> Result<BisectFinding> {
    // What is live now is all of it.
    if runner.try_live()? != Verdict::Bad {
        return Err(Problem::new(
            "nothing is broken: what is live now was judged good, or not at all",
        )
        .with_hint("give a command that fails: `comfy bisect -- CMD`"));
    }
    let none = row.state_with(&[])?;
    let with_none = match row.units.first() {
        Some(Unit::Enable(_)) => "with no node enabled",
        _ => "with the pins of --good",
    };
    if runner.try_state(&none, with_none)? != Verdict::Good {
        return Err(Problem::new(format!(
            "it is broken {with_none} too, or could not be judged"
        ))
        .with_hint(match row.units.first() {
            Some(Unit::Enable(_)) => {
                "the cause is no node: `comfy bisect --good REV` searches among pins"
            }
            _ => "name an older commit with --good (`comfy history` lists them)",
        }));
    }
    let place = match search_row(runner, row, None)? {
        Ok(place) => place,
        Err(range) => return Ok(ambiguous(row, range)),
    };
    let unit = &row.units[place];
    if *unit == Unit::Python
        && let Some(packages) = row.within_python(place)
    {
        render::print_note("Python it is: searching its packages.");
        return Ok(match search_row(runner, &packages, None)? {
            Ok(place) => {
                let text = finding_after_others(&packages, place);
                BisectFinding::at(&packages, place, text)
            }
            Err(range) => ambiguous(&packages, range),
        });
    }
    let alone = match place {
        0 => Verdict::Bad,
        _ => {
            let what = format!("{} alone", unit.name());
            runner.try_state(&row.state_with(std::slice::from_ref(unit))?, &what)?
        }
    };
    match alone {
        Verdict::Good => {}
        Verdict::Bad => {
            let text = format!("{}.", finding(row, place));
            return Ok(BisectFinding::at(row, place, text));
        }
        Verdict::Skip => {
            let text = finding_after_others(row, place);
            return Ok(BisectFinding::at(row, place, text));
        }
    }
    render::print_note("Not alone: searching what it breaks together with.");
    let (partners, of) = match search_row(runner, row, Some(place))? {
        Ok(partner) => (&row.units[partner..=partner], ""),
        Err(range) => (&row.units[range], "one of "),
    };
    let text = format!(
        "{} together with {of}{}.",
        finding(row, place),
        names(partners)
    );
    Ok(BisectFinding {
        together_with: partners.iter().map(Unit::name).collect(),
        ..BisectFinding::at(row, place, text)
    })
}

/// Returns the place, or those among which nothing could be judged. With `last`, the row ends before
/// that change, which is there in each try.
fn search_row(
    runner: &mut TryRunner,
    row: &Row,
    last: Option<usize>,
) -> Result<std::result::Result<usize, std::ops::Range<usize>>> {
    let all = last.unwrap_or(row.units.len());
    let mut search = PrefixSearch::new(all);
    loop {
        match search.next_step() {
            NextStep::Found(place) => return Ok(Ok(place)),
            NextStep::Between(range) => return Ok(Err(range)),
            NextStep::Try(length) => {
                let mut happened = row.units[..length].to_vec();
                let mut what = format!(
                    "the first {length} of {all}, up to {}",
                    row.units[length - 1].name()
                );
                if let Some(last) = last.map(|place| &row.units[place]) {
                    happened.push(last.clone());
                    what += &format!(", and {}", last.name());
                }
                let state = row.state_with(&happened)?;
                let verdict = runner.try_state(&state, &what)?;
                search.record(length, verdict);
            }
        }
    }
}

/// Says what was found at a place.
fn finding(row: &Row, place: usize) -> String {
    let unit = &row.units[place];
    let moves = unit.moves(&row.moved());
    let name = escape_text(&unit.name());
    let detail = match moves.is_empty() {
        true => String::new(),
        false => format!(" ({})", escape_text(&moves)),
    };
    format!("{name} breaks it{detail}")
}

/// The same, where it was not tried alone.
fn finding_after_others(row: &Row, place: usize) -> String {
    let found = finding(row, place);
    match place {
        0 => format!("{found}."),
        n => format!(
            "{found}; without it, the {} before it work.",
            count_of(n, "change")
        ),
    }
}

fn ambiguous(row: &Row, range: std::ops::Range<usize>) -> BisectFinding {
    let units = &row.units[range];
    BisectFinding {
        breaks: None,
        together_with: Vec::new(),
        one_of: units.iter().map(Unit::name).collect(),
        text: format!(
            "One of these breaks it; what lies between could not be judged: {}.",
            names(units)
        ),
    }
}

fn names(units: &[Unit]) -> String {
    let all: Vec<String> = units.iter().map(|u| escape_text(&u.name())).collect();
    all.join(", ")
}
