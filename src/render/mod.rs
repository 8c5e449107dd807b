//! All output. stdout is data, stderr is progress and diagnostics; everything passes through here.

pub(crate) mod bars;
pub(crate) mod json_output;
pub(crate) mod other_tools;
pub(crate) mod plan_json;
pub(crate) mod plan_text;
pub(crate) mod sbom;
pub(crate) mod scan_html;
pub(crate) mod scan_json;
pub(crate) mod scan_sarif;
pub(crate) mod scan_text;
pub(crate) mod shell_screen;
pub(crate) mod verify_text;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use super::problem::Problem;

static SETTINGS: AtomicU8 = AtomicU8::new(0);
const COLOR_OUT: u8 = 1;
const COLOR_ERR: u8 = 2;
const QUIET: u8 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// Sets the colours and the verbosity of this process, once, at its start. `plain`: the environment
/// asks for no colours, which counts if `color` is [`ColorChoice::Auto`].
pub(crate) fn set_up(color: ColorChoice, quiet: bool, plain: bool) {
    let wanted = |terminal: bool| match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal && !plain,
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

fn setting_bit(bit: u8) -> bool {
    SETTINGS.load(Ordering::Relaxed) & bit != 0
}

/// The style of a piece of text.
#[derive(Clone, Copy)]
pub(crate) enum PaintStyle {
    Green,
    Yellow,
    Red,
    Cyan,
    Bold,
    Dim,
}

/// Returns `text` in a colour if stdout takes colours.
pub(crate) fn paint(text: &str, p: PaintStyle) -> String {
    if setting_bit(COLOR_OUT) {
        colorize(text, p)
    } else {
        text.to_string()
    }
}

fn colorize(text: &str, p: PaintStyle) -> String {
    let code = match p {
        PaintStyle::Green => 32,
        PaintStyle::Yellow => 33,
        PaintStyle::Red => 31,
        PaintStyle::Cyan => 36,
        PaintStyle::Bold => 1,
        PaintStyle::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Prints data to stdout. A closed pipe is not an error: its reader wants no more.
pub fn print_stdout(text: &str) {
    if json_output::keep_line(text) {
        return;
    }
    let mut out = std::io::stdout().lock();
    let written = writeln!(
        out,
        "{}",
        crate::text::sanitize(text, setting_bit(COLOR_OUT))
    )
    .and_then(|()| out.flush());
    if let Err(e) = written {
        note_stdout_error(e);
    }
}

/// A closed pipe is not an error: its reader wants no more.
fn note_stdout_error(e: std::io::Error) {
    if e.kind() != std::io::ErrorKind::BrokenPipe {
        let _ = UNSAID.set(e);
    }
}

/// Returns why something could not be written to stdout: half a bill of materials is not a success.
pub(crate) fn stdout_error() -> Option<&'static std::io::Error> {
    UNSAID.get()
}

static UNSAID: std::sync::OnceLock<std::io::Error> = std::sync::OnceLock::new();

/// Prints a diagnostic to stderr, even with `-q`.
pub fn print_stderr(text: &str) {
    let _ = writeln!(
        std::io::stderr().lock(),
        "{}",
        crate::text::sanitize(text, setting_bit(COLOR_ERR))
    );
}

/// Prints a message to stderr, wrapped between words if that is a terminal; further lines are
/// indented.
fn print_message(text: &str, indent: usize) {
    match terminal_size::terminal_size_of(std::io::stderr()) {
        Some((width, _)) => print_stderr(&wrap_message(text, usize::from(width.0), indent)),
        None => print_stderr(text),
    }
}

/// Prints data for people to stdout, wrapped between words if that is a terminal.
pub(crate) fn print_wrapped_stdout(text: &str) {
    match terminal_size::terminal_size_of(std::io::stdout()) {
        Some((width, _)) => print_stdout(&wrap_message(text, usize::from(width.0), 4)),
        None => print_stdout(text),
    }
}

/// Wraps each line of `text`. What stands between backquotes is kept in one piece, because people
/// copy it.
fn wrap_message(text: &str, width: usize, indent: usize) -> String {
    // A terminal of this width shows no sentence anyway.
    if width < 30 {
        return text.to_string();
    }
    let mut quoted = false;
    let held: String = text
        .chars()
        .map(|c| {
            quoted ^= c == '`';
            if quoted && c == ' ' { HELD_SPACE } else { c }
        })
        .collect();
    let further = " ".repeat(indent);
    let wrap = |line: &str| {
        let first = &line[..line.len() - line.trim_start().len()];
        let further = format!("{first}{further}");
        let options = textwrap::Options::new(width)
            .subsequent_indent(&further)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .word_separator(textwrap::WordSeparator::AsciiSpace);
        textwrap::fill(line, options)
    };
    let lines: Vec<String> = held.lines().map(wrap).collect();
    lines.join("\n").replace(HELD_SPACE, " ")
}

/// Stands for a space that no line ends at; no message has it.
const HELD_SPACE: char = '\u{f8ff}';

/// Prints a note to stderr, unless `-q` is given.
pub(crate) fn print_note(text: &str) {
    if !setting_bit(QUIET) {
        print_message(text, 0);
    }
}

pub(crate) fn print_warning(text: &str) {
    let head = if setting_bit(COLOR_ERR) {
        colorize("warning", PaintStyle::Yellow)
    } else {
        "warning".into()
    };
    print_message(&format!("{head}: {}", crate::text::escape_text(text)), 2);
}

/// Prints an error and its hints, as cargo and uv do.
pub(crate) fn print_problem(p: &Problem) {
    let (error, hint) = if setting_bit(COLOR_ERR) {
        (
            colorize("error", PaintStyle::Red),
            colorize("hint", PaintStyle::Cyan),
        )
    } else {
        ("error".into(), "hint".into())
    };
    let mut told: Vec<String> = Vec::new();
    let all = p.each_problem();
    for (i, p) in all.iter().enumerate() {
        // Further lines are indented, so that none of them can pass for a separate message.
        let lines = crate::text::escape_lines(&p.message).replace('\n', "\n    ");
        print_message(&format!("{error}: {lines}"), 2);
        // A hint that several problems share is printed once, after the last of them.
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
                print_message(&format!("  {hint}: {}", crate::text::escape_lines(&h)), 2);
                told.push(h);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::wrap_message;

    #[test]
    fn a_message_is_wrapped_between_words_and_what_one_copies_is_not() {
        insta::assert_snapshot!(wrap_message(
            "error: /srv/comfy/input: you may not create anything in /srv\n    another line that is \
             indented already, and long\n  hint: write `path = \"~/comfy/input with spaces\"` below it",
            40,
            2
        ), @r#"
        error: /srv/comfy/input: you may not
          create anything in /srv
            another line that is indented
              already, and long
          hint: write
            `path = "~/comfy/input with spaces"`
            below it
        "#);
        assert_eq!(wrap_message("as it is", 80, 2), "as it is");
    }
}
