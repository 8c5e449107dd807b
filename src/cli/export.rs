use super::GlobalArgs;
use crate::lock::coverage;
use crate::manifest::schema;
use crate::problem::{Problem, Result};
use crate::project::ComfyProject;
use crate::render::{self, sbom};

/// Export the pins, or the form of comfy.toml, for other tools
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy export sbom > comfy.cdx.json\n  comfy export schema > \
        comfy.schema.json"
)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    what: ExportFormat,
}

#[derive(clap::Subcommand)]
enum ExportFormat {
    /// A software bill of materials (CycloneDX 1.6, JSON): ComfyUI, nodes, Python packages and
    /// models, with their hashes
    Sbom,
    /// The JSON schema of comfy.toml, with which editors complete and check it
    Schema,
}

pub(crate) fn run(global: &GlobalArgs, args: &ExportArgs) -> Result<u8> {
    match args.what {
        ExportFormat::Sbom => print_sbom(global),
        ExportFormat::Schema => {
            render::print_stdout(schema::schema_text().trim_end());
            Ok(0)
        }
    }
}

fn print_sbom(global: &GlobalArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let Some((lock, _)) = &project.lock else {
        return Err(Problem::new("comfy.lock does not exist").with_hint("run `comfy lock`"));
    };
    let cover = coverage::check(&project.manifest, lock);
    if !cover.problems.is_empty() {
        return Err(Problem::from_many(cover.problems));
    }
    cover.warnings.iter().for_each(|w| render::print_warning(w));
    render::print_stdout(&sbom::bill_of_materials(lock));
    Ok(0)
}
