use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use super::GlobalArgs;
use crate::desired::InstancePaths;
use crate::host::signals;
use crate::launch::log_writer::{byte_lines, log_path};
use crate::problem::{Context, EXIT_INTERRUPTED, Problem, Result};
use crate::project::ComfyProject;
use crate::records::running;
use crate::render;

/// What ComfyUI said since `comfy start`
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  comfy logs                  the last launch, from its start\n  \
        comfy logs -n 50 -f         its last lines, and what follows"
)]
pub struct LogsArgs {
    /// Go on as ComfyUI does, until it ends or Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
}

pub fn run(global: &GlobalArgs, args: &LogsArgs) -> Result<u8> {
    let desired = super::desired_state(&ComfyProject::open(global)?)?;
    let paths = &desired.paths;
    let path = log_path(paths, 0);
    if path.symlink_metadata().is_err() {
        return Err(Problem::new("there is no log yet").with_hint(
            "`comfy start` keeps one; `comfy run` shows everything where it was started",
        ));
    }
    if running::read_running(paths).is_some_and(|l| !l.detached) {
        render::print_note(
            "What runs now shows everything where it was started; this is what the last `comfy \
             start` said.",
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

/// Where the last `n` lines begin; only the end of a long log is read.
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

/// The last lines of the log.
///
/// # Errors
/// It cannot be read.
pub fn last_lines(paths: &InstancePaths, n: usize) -> Result<String> {
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
