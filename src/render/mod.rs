//! What people and programs see. stdout is data, stderr is progress and diagnostics; everything
//! passes through here.

pub mod bars;
pub mod plan_json;
pub mod plan_text;
pub mod sbom;
pub mod shell_screen;
pub mod verify_text;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use super::problem::Problem;

static SETTINGS: AtomicU8 = AtomicU8::new(0);
const COLOR_OUT: u8 = 1;
const COLOR_ERR: u8 = 2;
const QUIET: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

/// Once, at the start: NO_COLOR (no-color.org) counts where nothing else is said.
pub fn set_up(color: Color, quiet: bool) {
    let plain = crate::host::env::var("NO_COLOR").is_some()
        || crate::host::env::var("TERM").is_some_and(|t| t == "dumb");
    let wanted = |terminal: bool| match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !plain,
    };
    let mut s = 0;
    s |= if wanted(std::io::stdout().is_terminal()) {
        COLOR_OUT
    } else {
        0
    };
    s |= if wanted(std::io::stderr().is_terminal()) {
        COLOR_ERR
    } else {
        0
    };
    s |= if quiet { QUIET } else { 0 };
    SETTINGS.store(s, Ordering::Relaxed);
}

fn setting(bit: u8) -> bool {
    SETTINGS.load(Ordering::Relaxed) & bit != 0
}

/// How a piece of text is painted.
#[derive(Clone, Copy)]
pub enum Paint {
    Green,
    Yellow,
    Red,
    Cyan,
    Bold,
    Dim,
}

/// `text` in a colour, if stdout takes any.
pub fn paint(text: &str, p: Paint) -> String {
    if setting(COLOR_OUT) {
        dye(text, p)
    } else {
        text.to_string()
    }
}

fn dye(text: &str, p: Paint) -> String {
    let code = match p {
        Paint::Green => 32,
        Paint::Yellow => 33,
        Paint::Red => 31,
        Paint::Cyan => 36,
        Paint::Bold => 1,
        Paint::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Data, to stdout. Someone who closed the pipe wants no more of it.
pub fn stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", crate::text::harmless(text, setting(COLOR_OUT)))
        .and_then(|()| out.flush());
    if let Err(e) = written.or_else(|e| {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            Ok(())
        } else {
            Err(e)
        }
    }) {
        let _ = UNSAID.set(e);
    }
}

/// Why something could not be written to stdout: half a bill of materials is no success.
pub fn unsaid() -> Option<&'static std::io::Error> {
    UNSAID.get()
}

static UNSAID: std::sync::OnceLock<std::io::Error> = std::sync::OnceLock::new();

/// A diagnostic, to stderr, whatever `-q` says.
pub fn stderr(text: &str) {
    let _ = writeln!(
        std::io::stderr().lock(),
        "{}",
        crate::text::harmless(text, setting(COLOR_ERR))
    );
}

/// Something good to know, to stderr, silenced by `-q`.
pub fn note(text: &str) {
    if !setting(QUIET) {
        stderr(text);
    }
}

pub fn warning(text: &str) {
    let head = if setting(COLOR_ERR) {
        dye("warning", Paint::Yellow)
    } else {
        "warning".into()
    };
    stderr(&format!("{head}: {}", crate::text::escape(text)));
}

/// An error and its hints, as cargo and uv print them.
pub fn problem(p: &Problem) {
    let (error, hint) = if setting(COLOR_ERR) {
        (dye("error", Paint::Red), dye("hint", Paint::Cyan))
    } else {
        ("error".into(), "hint".into())
    };
    let mut told: Vec<String> = Vec::new();
    let all = p.each();
    for (i, p) in all.iter().enumerate() {
        // Further lines are indented: none of them can pass for a message of its own.
        stderr(&format!(
            "{error}: {}",
            crate::text::escape_lines(&p.message).replace('\n', "\n    ")
        ));
        // A way out that several share is said once, after the last of them.
        let hints = |p: &Problem| {
            p.hints
                .iter()
                .cloned()
                .chain(p.io_hint().map(String::from))
                .collect::<Vec<_>>()
        };
        for h in hints(p)
            .into_iter()
            .filter(|h| !all[i + 1..].iter().any(|q| hints(q).contains(h)))
        {
            if !told.contains(&h) {
                stderr(&format!("  {hint}: {}", crate::text::escape_lines(&h)));
                told.push(h);
            }
        }
    }
}
