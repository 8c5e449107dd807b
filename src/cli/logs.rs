use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use super::GlobalArgs;
use super::target::LaunchTarget;
use crate::desired::InstancePaths;
use crate::host::signals;
use crate::launch::log_writer::{byte_lines, log_path};
use crate::problem::{Context, EXIT_INTERRUPTED, Problem, Result};
use crate::records::running;
use crate::render;

/// Show ComfyUI's output since `comfy start`
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy logs                  the whole log of the last launch\n  \
        comfy logs -n 50 -f         the last 50 lines, and new ones as they come"
)]
pub(crate) struct LogsArgs {
    /// Follow the log until ComfyUI exits or you press Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Show only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
}

pub(crate) fn run(global: &GlobalArgs, args: &LogsArgs) -> Result<u8> {
    let target = LaunchTarget::open_applied(global)?;
    let paths = &target.paths;
    let path = log_path(paths, 0);
    if path.symlink_metadata().is_err() {
        return Err(Problem::new("there is no log yet")
            .with_hint("`comfy start` keeps a log; `comfy run` prints to its own terminal"));
    }
    if running::read_running(paths).is_some_and(|l| !l.detached) {
        render::print_note(
            "ComfyUI now runs in a terminal, which shows its output; this is the log of the last \
             `comfy start`.",
        );
    }
    let mut file =
        std::fs::File::open(&path).with_context(|| format!("read {}", path.display()))?;
    if let Some(n) = args.lines {
        file.seek(SeekFrom::Start(start_of(&file, n)?))
            .with_context(|| format!("read {}", path.display()))?;
    }
    loop {
        for line in byte_lines(&mut file) {
            print_line(&line);
        }
        if !args.follow {
            return Ok(0);
        }
        if signals::is_interrupted() {
            return Ok(EXIT_INTERRUPTED);
        }
        let (over, turned) = (
            running::read_running(paths).is_none(),
            std::fs::metadata(&path)
                .is_ok_and(|m| file.metadata().is_ok_and(|f| f.ino() != m.ino())),
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
        if turned {
            byte_lines(&mut file).for_each(|l| print_line(&l));
            file =
                std::fs::File::open(&path).with_context(|| format!("read {}", path.display()))?;
        } else if over {
            byte_lines(&mut file).for_each(|l| print_line(&l));
            return Ok(0);
        }
    }
}

fn plain_text(line: &[u8]) -> String {
    crate::text::escape_text(&crate::text::without_colors(
        String::from_utf8_lossy(line).trim_end_matches(['\n', '\r']),
    ))
}

fn print_line(line: &[u8]) {
    let text = plain_text(line);
    if !text.is_empty() {
        render::print_stdout(&text);
    }
}

/// Returns the offset at which the last `n` lines begin; reads only the end of a long log.
fn start_of(mut file: &std::fs::File, n: usize) -> Result<u64> {
    let what = || "read the log".to_string();
    let size = file.metadata().with_context(what)?.len();
    let from = size.saturating_sub((n as u64).saturating_mul(400).max(1 << 16));
    file.seek(SeekFrom::Start(from)).with_context(what)?;
    let mut bytes = Vec::new();
    file.take(size - from)
        .read_to_end(&mut bytes)
        .with_context(what)?;
    let ends: Vec<usize> = bytes
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(i, _)| i + 1)
        .filter(|i| *i < bytes.len())
        .collect();
    let at = if n == 0 {
        bytes.len()
    } else {
        ends.len()
            .checked_sub(n)
            .and_then(|i| ends.get(i).copied())
            .unwrap_or(0)
    };
    Ok(from + at as u64)
}

/// Returns the last `n` lines of the log.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn last_lines(paths: &InstancePaths, n: usize) -> Result<String> {
    let Ok(mut file) = std::fs::File::open(log_path(paths, 0)) else {
        return Ok(String::new());
    };
    file.seek(SeekFrom::Start(start_of(&file, n)?))
        .context("read the log")?;
    Ok(byte_lines(file)
        .map(|l| plain_text(&l))
        .collect::<Vec<_>>()
        .join("\n"))
}
