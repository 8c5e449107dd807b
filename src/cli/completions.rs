use crate::problem::Result;

/// Print shell completions
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy completions zsh > ~/.zfunc/_comfy\n  comfy completions bash > \
        ~/.local/share/bash-completion/completions/comfy"
)]
pub(crate) struct CompletionsArgs {
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &CompletionsArgs) -> Result<u8> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut super::clap_command(), "comfy", &mut out);
    crate::render::print_stdout(String::from_utf8_lossy(&out).trim_end());
    Ok(0)
}
