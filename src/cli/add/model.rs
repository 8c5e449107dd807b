//! `comfy add model`.

use std::path::Path;

use crate::cli::GlobalArgs;
use crate::desired::below_home;
use crate::host::models::resolver;
use crate::manifest::edit::{SectionLines, add_sections};
use crate::manifest::{MODELS, hub_pages, names};
use crate::plan::model_summary::is_model;
use crate::problem::{Context, Problem, Result};
use crate::project::{self, ComfyProject};
use crate::render;
use crate::text::{count_of, escape_text, format_bytes};

/// A model to declare.
struct NewModel {
    path: String,
    /// `None` is the default share.
    share: Option<String>,
    source: Option<String>,
}

impl NewModel {
    fn lines(&self) -> SectionLines {
        let keys = [("share", &self.share), ("source", &self.source)];
        keys.into_iter()
            .filter_map(|(key, v)| Some((key, v.as_deref()?.into())))
            .collect()
    }
}

#[derive(clap::Args)]
pub(super) struct ModelArgs {
    /// The model's path in the share, or on the disk
    #[arg(value_name = "PATH", required_unless_present = "all")]
    path: Option<String>,
    /// Where to fetch it from: hf://, https://, civitai:ID, s3://, gs://, az:// or file: [default:
    /// the existing file]
    #[arg(long, value_name = "SOURCE", conflicts_with = "all")]
    source: Option<String>,
    /// The share it belongs to [default: models]
    #[arg(long, value_name = "NAME")]
    share: Option<String>,
    /// Add every model that comfy.toml does not declare yet
    #[arg(long, conflicts_with = "path")]
    all: bool,
}

pub(super) fn run(global: &GlobalArgs, args: &ModelArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let (models, size) = if args.all {
        models_on_disk(&project, args.share.as_deref())?
    } else {
        (vec![model_to_add(&project, args)?], 0)
    };
    if models.is_empty() {
        render::print_note("Every model in the shares is declared already.");
        return Ok(0);
    }
    project::edit_manifest(global, |text| {
        add_sections(
            text,
            "models",
            models.iter().map(|m| (m.path.as_str(), m.lines())),
        )
    })?;
    let what = match &models[..] {
        [m] => escape_text(&m.path),
        all => format!("{} ({})", count_of(all.len(), "model"), format_bytes(size)),
    };
    render::print_stdout(&format!("Added {what} to comfy.toml."));
    render::print_note("`comfy lock` pins what was added.");
    Ok(0)
}

fn model_to_add(project: &ComfyProject, args: &ModelArgs) -> Result<NewModel> {
    let given = args.path.clone().unwrap_or_default();
    let home = project.owner()?.home;
    let folder = |path: &str| below_home(&home, path);
    // A path on the disk stands for the share that contains it.
    let here = std::env::current_dir()
        .context("find the current folder")?
        .join(folder(&given));
    let here = here
        .parent()
        .and_then(|p| Some(p.canonicalize().ok()?.join(here.file_name()?)))
        .unwrap_or(here);
    let inside = project
        .manifest
        .shares
        .iter()
        .filter(|(n, _)| args.share.as_ref().is_none_or(|s| s == *n))
        .find_map(|(name, s)| {
            let top = folder(&s.path);
            let real = top.canonicalize().unwrap_or_else(|_| top.clone());
            let rest = here
                .strip_prefix(&top)
                .or_else(|_| here.strip_prefix(&real))
                .ok()?;
            Some((name.clone(), rest.to_str()?.to_string()))
        });
    let (share, path) = match inside {
        Some((share, path)) => (Some(share), path),
        None => (args.share.clone(), given),
    };
    if project.manifest.models.contains_key(path.as_str()) {
        return Err(Problem::new(format!(
            "comfy.toml already declares model \"{}\"",
            escape_text(&path)
        )));
    }
    if Path::new(&path).is_absolute() || path.starts_with("~/") {
        let shares = project
            .manifest
            .shares
            .iter()
            .filter(|(_, s)| s.role.holds_models())
            .map(|(n, s)| format!("{n} ({})", s.path))
            .collect::<Vec<_>>();
        let there = if shares.is_empty() {
            "comfy.toml has no such share yet".into()
        } else {
            format!("model shares: {}", escape_text(&shares.join(", ")))
        };
        return Err(Problem::new(format!(
            "\"{}\" is not in a share that holds models",
            escape_text(&path)
        ))
        .with_hint(format!(
            "move it into one, or declare a share for its folder; {there}"
        )));
    }
    names::check_relative(&path).map_err(|why| {
        Problem::new(format!("\"{}\" {why}", escape_text(&path)))
            .with_hint("write its path in the share, such as loras/x.safetensors")
    })?;
    let named = project
        .manifest
        .shares
        .get(share.as_deref().unwrap_or(MODELS));
    if let Some(source) = &args.source {
        hub_pages::check_source(source).map_err(|p| p.with_prefix("--source: "))?;
    }
    if args.source.is_none()
        && let Some(share) = named.map(|s| folder(&s.path))
    {
        resolver::ensure_no_link(&share, &path)?;
        let file = share.join(&path);
        if matches!(file.try_exists(), Ok(false)) {
            return Err(Problem::new(format!(
                "{} does not exist",
                escape_text(&file.to_string_lossy())
            ))
            .with_hint("put the file there first, or add --source"));
        }
    }
    Ok(NewModel {
        path,
        share: share.filter(|s| s != MODELS),
        source: args.source.clone(),
    })
}

fn models_on_disk(project: &ComfyProject, only: Option<&str>) -> Result<(Vec<NewModel>, u64)> {
    let home = project.owner()?.home;
    let (mut out, mut size) = (Vec::new(), 0);
    for (name, s) in project
        .manifest
        .shares
        .iter()
        .filter(|(n, s)| s.role.holds_models() && only.is_none_or(|o| o == *n))
    {
        let mut there = resolver::share_files(&below_home(&home, &s.path))?;
        there.retain(|(path, _)| {
            is_model(path)
                && s.role.shows_path(path)
                && !project.manifest.models.contains_key(path.as_str())
        });
        for (path, n) in there {
            if let Err(why) = names::check_model_file(&path) {
                render::print_warning(&format!("{name}: \"{path}\" {why}: skipped"));
                continue;
            }
            size += n;
            out.push(NewModel {
                path,
                share: (name != MODELS).then(|| name.clone()),
                source: None,
            });
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((out, size))
}
