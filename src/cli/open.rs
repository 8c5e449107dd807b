use super::GlobalArgs;
use crate::gateway::tokens::GatewayCredentials;
use crate::host::browser;
use crate::launch::ready;
use crate::problem::{Problem, Result};
use crate::project::ComfyProject;
use crate::records::running;
use crate::render;

/// Open ComfyUI in your browser
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy open\n  comfy open --print          print a one-time \
        address, valid for one minute\n  curl -H \"Authorization: Bearer $(comfy open --token)\" \
        http://127.0.0.1:8188/system_stats"
)]
pub(crate) struct OpenArgs {
    /// Print the token for programs; it is valid until ComfyUI stops
    #[arg(long, conflicts_with = "print")]
    token: bool,
    /// Print the address instead of opening it
    #[arg(long)]
    print: bool,
}

pub(crate) fn run(global: &GlobalArgs, args: &OpenArgs) -> Result<u8> {
    let project = ComfyProject::open(global)?;
    let desired = super::desired_state(&project)?;
    let Some(live) = running::read_running(&desired.paths) else {
        return Err(Problem::new("ComfyUI is not running").with_hint("start it with `comfy start`"));
    };
    if !project.is_isolated() {
        // There is no gateway, and everybody is admitted.
        if args.token {
            return Err(Problem::new(
                "isolation = \"none\" has no token: everybody who reaches the port can use ComfyUI",
            ));
        }
        return open_url(&live.address, args.print);
    }
    let handle =
        GatewayCredentials::read_as_owner(&desired.paths.gateway_credentials(), desired.owner.uid)?;
    if args.token {
        render::print_stdout(&handle.authorization_header());
        return Ok(0);
    }
    if args.print {
        render::print_stdout(&handle.open_url()?);
        return Ok(0);
    }
    // The command line of the program that knows the browser is everybody's to read.
    let opened = if browser::is_of_windows() {
        // It has no uid here, and reads no file of this system's.
        browser::open_url(&handle.open_url()?)?
    } else if ready::is_admitted(&handle.address) {
        browser::open_url(&handle.address)?
    } else {
        browser::open_in_secret(&handle.open_url()?)?
    };
    if !opened {
        render::print_stdout(&handle.open_url()?);
    }
    Ok(0)
}

fn open_url(url: &str, print: bool) -> Result<u8> {
    if print || !browser::open_url(url)? {
        render::print_stdout(url);
    }
    Ok(0)
}
