use crate::problem::{Context, Result};

/// Print the manual page
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy man | man -l -\n  comfy man > ~/.local/share/man/man1/comfy.1"
)]
pub(crate) struct ManArgs {}

pub(crate) fn run(_: &ManArgs) -> Result<u8> {
    let command = super::clap_command();
    let mut out = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render(&mut out).context("write the manual")?;
    for sub in command.get_subcommands().filter(|s| !s.is_hide_set()) {
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(sub.clone());
        let head = format!(".SH COMFY {}\n", sub.get_name().to_uppercase());
        page.render_description_section(&mut text)
            .and_then(|()| page.render_synopsis_section(&mut text))
            .and_then(|()| page.render_options_section(&mut text))
            .context("write the manual")?;
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(
            String::from_utf8_lossy(&text)
                .replace(".SH ", ".SS ")
                .as_bytes(),
        );
    }
    crate::render::print_stdout(String::from_utf8_lossy(&out).trim_end());
    Ok(0)
}
