use super::Global;
use super::run::{caveats, request};
use crate::desired::{Desired, Paths};
use crate::host::signals;
use crate::launch::client::ask;
use crate::launch::log_writer::Status;
use crate::launch::{Answer, How, import_log};
use crate::problem::{EXIT_INTERRUPTED, Problem, Result};
use crate::project::Project;
use crate::records::running;
use crate::render;
use crate::text::escape;

/// Start ComfyUI in the background, and wait until it is ready
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy start                 it goes on after this terminal; `comfy \
        logs -f` shows what it says\n  comfy start -- --cpu        with a flag of ComfyUI's for \
        this time"
)]
pub struct Args {
    /// Flags for ComfyUI, after those of comfy.toml
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> Result<u8> {
    let project = Project::open(global)?;
    project.announce();
    start(&project, &project.desired()?, &args.args)
}

/// Starts it and waits.
///
/// # Errors
/// It did not start, or ended before it was ready: with the end of its log.
pub fn start(project: &Project, desired: &Desired, args: &[String]) -> Result<u8> {
    let mut asked = ask(
        &request(project, desired, args, How::Detached),
        &desired.paths,
        project.isolated(),
    )?;
    // It has answered: the launch is a process of its own by now.
    let _ = asked.side.child.wait();
    let Answer::Started {
        address,
        generation,
        nodes,
        unknown,
        lacking,
    } = asked.answer
    else {
        return Ok(0);
    };
    caveats(desired, &generation, &unknown, &lacking);
    wait(&desired.paths, &address, &nodes)
}

fn wait(paths: &Paths, address: &str, nodes: &[String]) -> Result<u8> {
    let mut hints = 0;
    loop {
        let status = Status::read(paths);
        for h in status.hints.iter().skip(hints) {
            render::note(&format!("hint: {}", escape(h)));
        }
        hints = status.hints.len();
        if let Some(seconds) = status.ready {
            import_log::more(status.more)
                .iter()
                .for_each(|l| render::note(l));
            let mut summary = import_log::summary(nodes, &status.failed).into_iter();
            render::note(&format!(
                "ComfyUI is ready at {address} after {seconds:.1} s; {}.",
                summary.next().unwrap_or_default()
            ));
            summary.for_each(|l| render::warning(&l));
            return Ok(0);
        }
        if running::read(paths).is_none() {
            let how = running::last(paths).map_or("without a word".into(), |e| {
                format!("with {}", running::code(e.code))
            });
            render::stderr(&super::logs::tail(paths, 20)?);
            return Err(
                Problem::new(format!("ComfyUI ended {how} before it was ready"))
                    .hint("the lines above are the last of its log; `comfy logs` shows all of it"),
            );
        }
        if signals::interrupted() {
            render::note(
                "ComfyUI goes on starting: `comfy status` shows it, `comfy stop` ends it.",
            );
            return Ok(EXIT_INTERRUPTED);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
