use super::Global;
use crate::lock::coverage;
use crate::problem::{Problem, Result};
use crate::project::Project;
use crate::render::{self, sbom};

/// Tell other tools what is pinned
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  comfy export sbom > comfy.cdx.json")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// A bill of materials (CycloneDX 1.6, JSON): ComfyUI, nodes, Python packages, models, with
    /// their hashes
    Sbom,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let What::Sbom = args.what;
    let project = Project::open(global)?;
    let Some((lock, _)) = &project.lock else {
        return Err(Problem::new("there is no comfy.lock").hint("run `comfy lock`"));
    };
    let cover = coverage::compare(&project.manifest, lock);
    if !cover.problems.is_empty() {
        return Err(Problem::all(cover.problems));
    }
    cover.warnings.iter().for_each(|w| render::warning(w));
    render::stdout(&sbom::text(lock));
    Ok(0)
}
