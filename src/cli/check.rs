use super::GlobalArgs;
use crate::lock::{self, coverage};
use crate::manifest::Manifest;
use crate::problem::{Problem, Result};
use crate::project::{ComfyProject, MANIFEST};
use crate::render;
use crate::text::{count_of, escape_text};

/// Check comfy.toml and comfy.lock, without a look at the machine or a server
///
/// All [hosts.NAME] sections are checked, unless --host names one. Exits with 1 if anything is
/// wrong.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy check                 in CI, or before a commit\n  comfy check \
        --host macbook  with that machine's section alone"
)]
pub(crate) struct CheckArgs {}

pub(crate) fn run(global: &GlobalArgs, _: &CheckArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let manifest = &project.manifest;
    let mut problems: Vec<Problem> = Vec::new();
    let others = manifest
        .hosts
        .iter()
        .filter(|_| global.project.host.is_none());
    for host in others.filter(|h| !h.eq_ignore_ascii_case(&project.hostname)) {
        let path = project.dir.join(MANIFEST);
        if let Err(p) = Manifest::parse(&path, &manifest.source.text, host) {
            let each = p.each_problem().into_iter().map(|p| Problem {
                also: Vec::new(),
                ..p.clone()
            });
            let prefix = format!("with [hosts.{}]: ", escape_text(host));
            problems.extend(each.map(|p| p.with_prefix(&prefix)));
        }
    }
    let (mut pins, mut warnings) = (String::new(), Vec::new());
    match &project.lock {
        None => problems.push(
            Problem::new(format!("{} does not exist", project.lock_path.display()))
                .with_hint("run `comfy lock`"),
        ),
        Some((lock, text)) => {
            let cover = coverage::check(manifest, lock);
            cover.warnings.iter().for_each(|w| render::print_warning(w));
            warnings = cover.warnings;
            problems.extend(cover.problems);
            if problems.is_empty() && lock.render() != **text {
                problems.push(
                    Problem::new(format!(
                        "{} is not in the form that comfy writes",
                        lock::FILE
                    ))
                    .with_hint("run `comfy lock`"),
                );
            }
            pins = super::lock::summary_of_pins(lock);
        }
    }
    let lock = project.lock.as_ref().map(|(lock, _)| lock);
    render::json_output::set_data(&serde_json::json!({
        "hosts": match &global.project.host {
            Some(host) => std::slice::from_ref(host),
            None => &manifest.hosts[..],
        },
        "nodes": lock.map(|l| l.nodes.len()),
        "packages": lock.and_then(|l| l.python.as_ref()).map(|p| p.packages.len()),
        "models": lock.map(|l| l.models.len()),
        "warnings": warnings,
        "problems": problems.iter().map(|p| p.each_problem().len()).sum::<usize>(),
    }));
    if !problems.is_empty() {
        return Err(Problem::from_many(problems));
    }
    let hosts = match manifest.hosts.len() {
        0 => String::new(),
        n if global.project.host.is_none() => format!("; {}", count_of(n, "[hosts] section")),
        _ => String::new(),
    };
    render::print_note(&format!(
        "{MANIFEST} and {} are correct ({pins}{hosts}).",
        lock::FILE
    ));
    Ok(0)
}
