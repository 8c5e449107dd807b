use super::Global;
use super::project::Project;
use crate::host::machine::Machine;
use crate::plan::build;
use crate::plan::select::Selection;
use crate::problem::{EXIT_FINDINGS, Result};
use crate::render::text::Detail;
use crate::render::{self, verdicts};

/// Compare code and virtual environment with comfy.lock, file by file; changes nothing
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy verify                reads what changed since it was last known to be whole\n  comfy verify --full         reads every byte, whatever was known\n\nExit code 2 if anything is not as comfy.lock pins it."
)]
pub struct Args {
    /// Believe nothing that an earlier run has read
    #[arg(long)]
    full: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    let desired = project.desired()?;
    let machine = if args.full { Machine::without_memory(&desired.paths, &desired.sandbox) } else { Machine::new(&desired.paths, &desired.sandbox) };
    let plan = build::plan(&desired, &machine, &Selection::parse(&["comfyui", "nodes", "python"].map(String::from))?)?;
    let verdicts = verdicts::of(&plan);
    render::stdout(verdicts::text(&verdicts, &Detail { verbose: global.verbose, diff: &|a, p| super::plan::diff(&desired, a, p) }).trim_end());
    let off = verdicts.iter().filter(|v| !v.good).count();
    render::note(&format!("{} of {} as comfy.lock pins them.", verdicts.len() - off, crate::text::count(verdicts.len(), "part")));
    Ok(if off == 0 { 0 } else { EXIT_FINDINGS })
}
