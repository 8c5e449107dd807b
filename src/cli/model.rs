use bytestring::ByteString;

use super::GlobalArgs;
use crate::desired::below_home;
use crate::host::fs;
use crate::host::models::{install, safetensors_header};
use crate::manifest::{ModelSettings, Table};
use crate::problem::{Problem, Result};
use crate::project::ComfyProject;
use crate::render;
use crate::safetensors;
use crate::text::{count_of, did_you_mean, escape_text, format_bytes};

/// Show a model's pin, source and metadata
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy model checkpoints/sd15.safetensors\n  comfy model \
        sd15.safetensors"
)]
pub(crate) struct ModelArgs {
    /// The model's path in the share, or the end of it
    #[arg(value_name = "NAME", add = super::completions::models())]
    name: String,
}

pub(crate) fn run(global: &GlobalArgs, args: &ModelArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let all = &project.manifest.models;
    let (path, model) = find_model(all, &args.name)?;
    let row = |key: &str, value: &str| {
        if !value.is_empty() {
            render::print_stdout(&format!("{key:14} {}", escape_text(value)));
        }
    };
    row("model", path);
    row("share", &model.share);
    row(
        "source",
        model
            .source
            .as_deref()
            .unwrap_or("none: an existing file was adopted"),
    );
    if let Some(pin) = project.lock.as_ref().and_then(|(l, _)| l.models.get(path)) {
        row("revision", pin.revision.as_deref().unwrap_or_default());
        row(
            "size",
            &format!("{} ({} bytes)", format_bytes(pin.size), pin.size),
        );
        row("sha256", &pin.sha256.to_string());
        let blake3 = pin.blake3.map(|b| b.to_string());
        row("blake3", blake3.as_deref().unwrap_or_default());
    } else {
        row("pin", "none yet; run `comfy lock`");
    }
    let share = project
        .manifest
        .shares
        .get(&*model.share)
        .map(|s| s.path.clone())
        .unwrap_or_default();
    let owner = project.owner()?;
    let folder = below_home(&owner.home, &share);
    let at = fs::real_path(&folder, owner.uid)
        .map_err(Problem::from)?
        .join(&**path);
    let Ok(file) = install::open_regular(&at, &|_| true) else {
        row("file", &format!("{} does not exist", at.display()));
        return Ok(0);
    };
    row("file", &at.display().to_string());
    let format = path.rsplit_once('.').map_or("", |(_, e)| e);
    if !safetensors::is_one(path) {
        let pickle = ["ckpt", "pt", "pth", "bin", "pkl"]
            .iter()
            .any(|e| format.eq_ignore_ascii_case(e));
        row(
            "format",
            &if pickle {
                format!("{format}: probably a pickle, which can run code when it is loaded")
            } else {
                format.to_string()
            },
        );
        return Ok(0);
    }
    print_header(&file, &row)?;
    Ok(0)
}

/// The one declared model whose path is `name`, or ends in it.
fn find_model<'a>(
    all: &'a Table<ModelSettings>,
    name: &str,
) -> Result<(&'a ByteString, &'a ModelSettings)> {
    let ends =
        |path: &str| path == name || path.strip_suffix(name).is_some_and(|p| p.ends_with('/'));
    let found: Vec<_> = all.iter().filter(|(p, _)| ends(p)).collect();
    match &found[..] {
        [one] => Ok(*one),
        [] => {
            let names = || all.keys().map(|p| p.rsplit('/').next().unwrap_or(p));
            let by_stem = names().find(|n| n.rsplit_once('.').is_some_and(|(s, _)| s == name));
            let p = Problem::new(format!(
                "comfy.toml does not declare a model `{}`",
                escape_text(name)
            ));
            Err(match by_stem.or_else(|| did_you_mean(name, names())) {
                Some(k) => p.with_hint(format!("did you mean `{}`?", escape_text(k))),
                None => p.with_hint(
                    "`comfy list` shows those that it declares; `comfy add model` declares one",
                ),
            })
        }
        many => {
            let names = many
                .iter()
                .take(5)
                .map(|(p, _)| escape_text(p))
                .collect::<Vec<_>>()
                .join(", ");
            Err(Problem::new(format!(
                "`{}` matches several models: {names}",
                escape_text(name)
            ))
            .with_hint("write more of its path"))
        }
    }
}

/// What the header of a safetensors file says.
fn print_header(file: &std::fs::File, row: &dyn Fn(&str, &str)) -> Result<()> {
    let size = file.metadata().map_or(0, |m| m.len());
    let h = safetensors_header::of_file(file, size)?;
    let types: Vec<String> = match h.types.iter().collect::<Vec<_>>()[..] {
        [(one, _)] => vec![one.to_string()],
        ref many => many.iter().map(|(t, n)| format!("{n} {t}")).collect(),
    };
    row(
        "format",
        &format!(
            "safetensors: {} ({}), {} numbers",
            count_of(h.tensors, "tensor"),
            types.join(", "),
            h.parameters
        ),
    );
    row("architecture", &h.guess_architecture().unwrap_or_default());
    for (key, name) in [("title", "modelspec.title"), ("author", "modelspec.author")] {
        row(key, h.metadata.get(name).map_or("", String::as_str));
    }
    row("licence", h.stated_licence().unwrap_or_default());
    row("trigger words", &h.trigger_words().join(", "));
    Ok(())
}
