//! The one error type: what happened, to what, and what to do now.

use std::fmt;

/// Exit code for errors, bad usage and a declined question.
pub const EXIT_ERROR: u8 = 1;
/// Exit code for asked-for differences or findings.
pub const EXIT_FINDINGS: u8 = 2;
/// Exit code after an interrupt (128 + SIGINT).
pub const EXIT_INTERRUPTED: u8 = 130;

/// An error a person reads: the message names file, line or resource; hints say the way out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    pub message: String,
    pub hints: Vec<String>,
    pub exit: u8,
    /// Others found at the same time, each with its own hints.
    pub also: Vec<Problem>,
}

pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    pub fn new(message: impl Into<String>) -> Self {
        Problem {
            message: message.into(),
            hints: Vec::new(),
            exit: EXIT_ERROR,
            also: Vec::new(),
        }
    }

    /// The same problem with one more way out.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub fn interrupted() -> Self {
        Problem {
            exit: EXIT_INTERRUPTED,
            ..Problem::new("interrupted")
        }
    }

    /// Several problems as one, in the order in which they were found.
    pub fn from_many(problems: Vec<Problem>) -> Self {
        let exit = problems.iter().map(|p| p.exit).max().unwrap_or(EXIT_ERROR);
        let mut rest = problems.into_iter();
        let mut first = rest
            .next()
            .unwrap_or_else(|| Problem::new("no problem at all"));
        first.also.extend(rest);
        first.exit = exit;
        first
    }

    /// What to do about a system call that failed, by what strerror(3) and nix say of it; nothing
    /// where the problem has its own hint.
    pub fn way_out(&self) -> Option<&'static str> {
        const KNOWN: &[(&str, &str)] = &[
            (
                "No space left on device",
                "free some space on that disk, then run it again",
            ),
            (
                "uota exceeded",
                "the quota of that disk is used up: free some space or have it raised, then run it \
                 again",
            ),
            (
                "Read-only file system",
                "mount it writable, then run it again",
            ),
            (
                "Input/output error",
                "the disk may be failing: look at the system's log before you run it again",
            ),
            (
                "I/O error",
                "the disk may be failing: look at the system's log before you run it again",
            ),
            (
                "symbolic links",
                "a link is where a folder belongs: look who put it there, then move it away",
            ),
            (
                "Not a directory",
                "something else is where a folder belongs: look who put it there, then move it \
                 away",
            ),
        ];
        KNOWN
            .iter()
            .find(|(words, _)| self.hints.is_empty() && self.message.contains(words))
            .map(|(_, hint)| *hint)
    }

    /// This one and those beside it.
    pub fn each_problem(&self) -> Vec<&Problem> {
        std::iter::once(self)
            .chain(self.also.iter().flat_map(|p| p.each_problem()))
            .collect()
    }

    /// The same with something put before every message.
    pub fn with_prefix(mut self, prefix: &str) -> Self {
        self.message = format!("{prefix}{}", self.message);
        self.also = self
            .also
            .into_iter()
            .map(|p| p.with_prefix(prefix))
            .collect();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for h in &self.hints {
            write!(f, " (hint: {h})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// Adds what was being done to a lower error: `open(..).with_context("open /etc/x")?`.
pub trait Context<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Problem::new(format!("could not {}: {e}", what())))
    }
}
