use std::path::{Path, PathBuf};

use clap_mangen::Man;

use crate::host::fs::edit;
use crate::problem::{Context, Problem, Result};
use crate::render;
use crate::text::{count_of, did_you_mean, escape_text};

/// Print the manual page of comfy or of one command, or write all of them
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy man apply | man -l -\n  comfy man --dir \
        ~/.local/share/man/man1    then: man comfy-apply"
)]
pub(crate) struct ManArgs {
    /// A command [default: comfy itself]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// Write every page into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs) -> Result<u8> {
    let root = super::clap_command().disable_help_subcommand(true);
    if let Some(dir) = &args.dir {
        let pages = write_pages(&root, dir)?;
        render::print_note(&format!(
            "Wrote {} to {}.",
            count_of(pages, "page"),
            dir.display()
        ));
        return Ok(0);
    }
    let command = match args.command.as_deref() {
        None => root,
        Some(name) => subcommand(&root, name)?,
    };
    render::print_stdout(page_text(&command)?.trim_end());
    Ok(0)
}

/// Returns a command under the name of its page, `comfy-apply`.
fn subcommand(root: &clap::Command, name: &str) -> Result<clap::Command> {
    let visible = || root.get_subcommands().filter(|c| !c.is_hide_set());
    let found = visible().find(|c| c.get_name() == name).ok_or_else(|| {
        let p = Problem::new(format!("there is no command {}", escape_text(name)));
        match did_you_mean(name, visible().map(clap::Command::get_name)) {
            Some(near) => p.with_hint(format!("did you mean `{near}`?")),
            None => p.with_hint("`comfy --help` lists them"),
        }
    })?;
    Ok(named(found))
}

fn named(command: &clap::Command) -> clap::Command {
    let name = command.get_name();
    let (page, usage) = (format!("comfy-{name}"), format!("comfy {name}"));
    command.clone().name(page).bin_name(usage)
}

/// Returns the page in roff, with the examples under their usual heading.
fn page_text(command: &clap::Command) -> Result<String> {
    let mut out = Vec::new();
    Man::new(command.clone())
        .render(&mut out)
        .context("write the manual")?;
    Ok(String::from_utf8_lossy(&out).replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n.nf\n"))
}

fn write_pages(root: &clap::Command, dir: &Path) -> Result<usize> {
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let subcommands = root.get_subcommands().filter(|c| !c.is_hide_set());
    let mut pages = 0;
    for command in std::iter::once(root.clone()).chain(subcommands.map(named)) {
        let path = dir.join(format!("{}.1", command.get_name()));
        edit::write_file(&path, page_text(&command)?.as_bytes(), 0o644, None)
            .with_context(|| format!("write {}", path.display()))?;
        pages += 1;
    }
    Ok(pages)
}
