use super::GlobalArgs;
use crate::manifest::edit::remove_path;
use crate::problem::{Problem, Result};
use crate::project;
use crate::render;
use crate::text::{did_you_mean, escape_text};

/// Remove nodes, models or shares from comfy.toml, keeping its comments
///
/// The lock and the machine follow with `comfy lock` and `comfy apply`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy remove node impact-pack\n  comfy remove model \
        loras/old.safetensors    declares it no longer; the file stays\n  comfy remove share output"
)]
pub(crate) struct RemoveArgs {
    #[command(subcommand)]
    what: RemoveTarget,
}

#[derive(clap::Subcommand)]
enum RemoveTarget {
    /// Remove nodes
    Node {
        #[arg(value_name = "NAME", required = true, add = super::completions::sections("nodes"))]
        names: Vec<String>,
    },
    /// Remove models; their files stay
    Model {
        #[arg(value_name = "PATH", required = true, add = super::completions::sections("models"))]
        names: Vec<String>,
    },
    /// Remove shares; their folders stay
    Share {
        #[arg(value_name = "NAME", required = true, add = super::completions::sections("shares"))]
        names: Vec<String>,
    },
}

pub(crate) fn run(global: &GlobalArgs, args: &RemoveArgs) -> Result<u8> {
    let (table, what, names) = match &args.what {
        RemoveTarget::Node { names } => ("nodes", "node", names),
        RemoveTarget::Model { names } => ("models", "model", names),
        RemoveTarget::Share { names } => ("shares", "share", names),
    };
    project::edit_manifest(global, |text| {
        let mut text = text.to_string();
        for name in names {
            text = remove_path(&text, &[table, name])?
                .ok_or_else(|| unknown_name(&text, table, what, name))?;
            // A machine's own settings of it would ask for what is not there any more.
            for host in section_names(&text, "hosts") {
                if let Some(without) = remove_path(&text, &["hosts", &host, table, name])? {
                    text = without;
                }
            }
        }
        Ok(text)
    })?;
    for name in names {
        render::print_stdout(&format!(
            "Removed {what} {} from comfy.toml.",
            escape_text(name)
        ));
    }
    render::print_note(if what == "share" {
        "`comfy plan` shows what would change on this machine."
    } else {
        "`comfy lock` removes the pin; `comfy plan` then shows what would change on this machine."
    });
    Ok(0)
}

fn unknown_name(text: &str, table: &str, what: &str, name: &str) -> Problem {
    let known = section_names(text, table);
    let p = Problem::new(format!(
        "comfy.toml has no {what} \"{}\"",
        escape_text(name)
    ));
    match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(near) => p.with_hint(format!("did you mean `{}`?", escape_text(near))),
        None if known.is_empty() => p.with_hint(format!("it has no {what}s")),
        None if known.len() <= 20 => {
            p.with_hint(format!("it has {}", escape_text(&known.join(", "))))
        }
        None => p.with_hint("names count with their capitals"),
    }
}

/// Returns the names that a table of comfy.toml has.
fn section_names(text: &str, table: &str) -> Vec<String> {
    let whole: Option<toml::Table> = toml::from_str(text).ok();
    let table = whole.as_ref().and_then(|w| w.get(table)?.as_table());
    table.map_or_else(Vec::new, |t| t.keys().cloned().collect())
}
