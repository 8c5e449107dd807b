use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::desired::InstancePaths;
use crate::host::signals;
use crate::launch::log_writer::LogStatus;
use crate::launch::{LaunchAnswer, LaunchMode, import_log};
use crate::problem::{EXIT_INTERRUPTED, Problem, Result};
use crate::records::running;
use crate::render;
use crate::text::escape_text;

/// Start ComfyUI in the background, and wait until it is ready
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy start                 keeps running after you close the \
        terminal; `comfy logs -f` shows its output\n  comfy start -- --cpu        with a ComfyUI \
        flag, this time only"
)]
pub(crate) struct StartArgs {
    /// Flags for ComfyUI, added to those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub(crate) fn run(global: &GlobalArgs, args: &StartArgs) -> Result<u8> {
    start_and_wait(&LaunchTarget::open(global)?, &args.args)
}

/// Starts ComfyUI and waits until it is ready.
///
/// # Errors
/// ComfyUI did not start, or exited before it was ready; the end of its log is printed.
pub(crate) fn start_and_wait(target: &LaunchTarget, args: &[String]) -> Result<u8> {
    let mut asked = target.launch(args, LaunchMode::Detached)?;
    // It has answered, so the launch no longer depends on this process.
    let _ = asked.side.child.wait();
    let LaunchAnswer::Started { address, nodes, .. } = asked.answer else {
        return Ok(0);
    };
    wait_until_ready(&target.paths, &address, &nodes)
}

fn wait_until_ready(paths: &InstancePaths, address: &str, nodes: &[String]) -> Result<u8> {
    let mut hints = 0;
    loop {
        let status = LogStatus::read(paths);
        for h in status.hints.iter().skip(hints) {
            render::print_note(&format!("hint: {}", escape_text(h)));
        }
        hints = status.hints.len();
        if let Some(seconds) = status.ready {
            import_log::more_hints_line(status.more)
                .iter()
                .for_each(|l| render::print_note(l));
            let mut summary = crate::records::import_results::nodes_summary(
                nodes,
                &status.failed,
                &status.partial,
            )
            .into_iter();
            render::print_note(&format!(
                "ComfyUI is ready at {address} after {seconds:.1} s; {}.",
                summary.next().unwrap_or_default()
            ));
            summary.for_each(|l| render::print_warning(&l));
            return Ok(0);
        }
        if running::read_running(paths).is_none() {
            let code = running::last_exit(paths).map_or(String::new(), |e| {
                format!(" with {}", running::exit_text(e.code))
            });
            render::print_stderr(&super::logs::last_lines(paths, 20)?);
            return Err(
                Problem::new(format!("ComfyUI exited{code} before it was ready")).with_hint(
                    "the lines above are the end of its log; `comfy logs` shows all of it",
                ),
            );
        }
        if signals::is_interrupted() {
            render::print_note(
                "ComfyUI is still starting: `comfy status` shows it, `comfy stop` stops it.",
            );
            return Ok(EXIT_INTERRUPTED);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
