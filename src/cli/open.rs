use super::Global;
use crate::gateway::tokens::Handle;
use crate::host::browser;
use crate::problem::{Problem, Result};
use crate::project::Project;
use crate::records::running;
use crate::render;

/// Show ComfyUI in your browser
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy open\n  comfy open --print          the address, which is \
        good once and for a minute\n  curl -H \"Authorization: Bearer $(comfy open --token)\" \
        http://127.0.0.1:8188/system_stats"
)]
pub struct Args {
    /// Print the token for programs, which is good as long as this launch
    #[arg(long, conflicts_with = "print")]
    token: bool,
    /// Print the address instead of opening it
    #[arg(long)]
    print: bool,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    let desired = project.desired()?;
    let Some(live) = running::read(&desired.paths) else {
        return Err(Problem::new("ComfyUI does not run").hint("`comfy start`"));
    };
    if !project.isolated() {
        // No front, and nobody who is kept out.
        if args.token {
            return Err(Problem::new(
                "isolation = \"none\" has no token: whoever reaches the port may use ComfyUI",
            ));
        }
        return show(&live.address, args.print);
    }
    let handle = Handle::read(&desired.paths.front(), desired.owner.uid)?;
    if args.token {
        render::stdout(&handle.bearer());
        return Ok(0);
    }
    show(&handle.open_url()?, args.print)
}

fn show(url: &str, print: bool) -> Result<u8> {
    if print || !browser::open(url)? {
        render::stdout(url);
    }
    Ok(0)
}
