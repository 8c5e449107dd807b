//! The one error type: what happened, to what, and what to do next.

use std::fmt;

/// The exit code for errors, bad usage and a declined question.
pub(crate) const EXIT_ERROR: u8 = 1;
/// The exit code for differences or findings that were asked for.
pub(crate) const EXIT_FINDINGS: u8 = 2;
/// The exit code after an interrupt (128 + SIGINT).
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// An error for the user: the message names the file, line or resource; hints say what to do. Code
/// reads its kind, never its text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Problem {
    pub message: String,
    pub hints: Vec<String>,
    pub kind: ProblemKind,
    /// Other problems found at the same time, each with its own hints.
    pub also: Vec<Problem>,
}

/// What a [`Problem`] is about, for code that decides by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// Something that the user wrote, asked for or must resolve.
    #[default]
    User,
    /// A system call failed.
    Io(IoKind),
    /// The user interrupted it.
    Interrupted,
    /// A server did not answer.
    Unreachable,
    /// The command line.
    Usage,
    /// There is no comfy.toml.
    NoManifest,
    /// comfy.toml has a mistake.
    Manifest,
    /// There is no comfy.lock.
    NoLock,
    /// comfy.lock has a mistake.
    Lock,
    /// comfy.lock was made for another comfy.toml.
    LockMismatch,
    /// The machine or the files changed since the plan was made.
    StalePlan,
    /// The user said no, or could not be asked.
    NotApproved,
    /// The program for `exec` does not exist.
    NoProgram,
}

impl ProblemKind {
    /// Returns its code in JSON, which never changes.
    pub(crate) fn code(self) -> &'static str {
        match self {
            ProblemKind::User => "failed",
            ProblemKind::Io(IoKind::NotFound) => "not_found",
            ProblemKind::Io(IoKind::PermissionDenied) => "permission_denied",
            ProblemKind::Io(IoKind::StorageFull | IoKind::QuotaExceeded) => "disk_full",
            ProblemKind::Io(IoKind::ReadOnly) => "read_only",
            ProblemKind::Io(_) => "io",
            ProblemKind::Interrupted => "interrupted",
            ProblemKind::Unreachable => "unreachable",
            ProblemKind::Usage => "usage",
            ProblemKind::NoManifest => "no_manifest",
            ProblemKind::Manifest => "manifest_invalid",
            ProblemKind::NoLock => "no_lock",
            ProblemKind::Lock => "lock_invalid",
            ProblemKind::LockMismatch => "lock_mismatch",
            ProblemKind::StalePlan => "stale_plan",
            ProblemKind::NotApproved => "not_approved",
            ProblemKind::NoProgram => "no_program",
        }
    }

    /// One of each code.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<ProblemKind> {
        use ProblemKind::*;
        let io = [
            IoKind::NotFound,
            IoKind::PermissionDenied,
            IoKind::StorageFull,
            IoKind::ReadOnly,
            IoKind::Other,
        ];
        let others = [
            User,
            Interrupted,
            Unreachable,
            Usage,
            NoManifest,
            Manifest,
            NoLock,
            Lock,
            LockMismatch,
            StalePlan,
            NotApproved,
            NoProgram,
        ];
        others.into_iter().chain(io.map(Io)).collect()
    }
}

/// Why a system call failed, if the user can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IoKind {
    NotFound,
    PermissionDenied,
    StorageFull,
    QuotaExceeded,
    ReadOnly,
    /// The device itself failed (EIO).
    Device,
    /// There is a link where none is allowed (ELOOP).
    Link,
    NotADirectory,
    Other,
}

impl From<&std::io::Error> for IoKind {
    fn from(e: &std::io::Error) -> IoKind {
        use std::io::ErrorKind;
        // EIO and ELOOP (errno(3)) have no `ErrorKind` in stable Rust.
        let link = if cfg!(target_os = "linux") { 40 } else { 62 };
        match (e.kind(), e.raw_os_error()) {
            (_, Some(5)) => IoKind::Device,
            (_, Some(n)) if n == link => IoKind::Link,
            (ErrorKind::NotFound, _) => IoKind::NotFound,
            (ErrorKind::PermissionDenied, _) => IoKind::PermissionDenied,
            (ErrorKind::StorageFull, _) => IoKind::StorageFull,
            (ErrorKind::QuotaExceeded, _) => IoKind::QuotaExceeded,
            (ErrorKind::ReadOnlyFilesystem, _) => IoKind::ReadOnly,
            (ErrorKind::NotADirectory, _) => IoKind::NotADirectory,
            _ => IoKind::Other,
        }
    }
}

impl IoKind {
    /// Recognises strerror(3)'s text in the output of another program.
    pub(crate) fn of_words(text: &str) -> Option<IoKind> {
        const WORDS: &[(&str, IoKind)] = &[
            ("No space left on device", IoKind::StorageFull),
            ("uota exceeded", IoKind::QuotaExceeded),
            ("Read-only file system", IoKind::ReadOnly),
            ("Input/output error", IoKind::Device),
            ("symbolic links", IoKind::Link),
            ("Not a directory", IoKind::NotADirectory),
        ];
        let found = WORDS.iter().find(|(words, _)| text.contains(words));
        found.map(|(_, kind)| *kind)
    }

    /// Returns what to do about it, if that is known.
    fn hint(self) -> Option<&'static str> {
        Some(match self {
            IoKind::StorageFull => "free some space on that disk, then try again",
            IoKind::QuotaExceeded => {
                "the quota of that disk is used up: free some space or have the quota raised, \
                 then try again"
            }
            IoKind::ReadOnly => "mount it writable, then try again",
            IoKind::Device => "the disk may be failing: read the system log before you try again",
            IoKind::Link => {
                "there is a link in place of a folder: find out who put it there, then move it away"
            }
            IoKind::NotADirectory => {
                "there is something else in place of a folder: find out who put it there, then \
                 move it away"
            }
            IoKind::NotFound | IoKind::PermissionDenied | IoKind::Other => return None,
        })
    }
}

/// A [`Problem`] as it is sent between processes; an older comfy reads `exit`.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    message: String,
    hints: Vec<String>,
    exit: u8,
    #[serde(default)]
    kind: Option<ProblemKind>,
    also: Vec<Problem>,
}

impl From<Problem> for Written {
    fn from(p: Problem) -> Written {
        Written {
            exit: p.exit(),
            message: p.message,
            hints: p.hints,
            kind: Some(p.kind),
            also: p.also,
        }
    }
}

impl From<Written> for Problem {
    fn from(w: Written) -> Problem {
        let told = if w.exit == EXIT_INTERRUPTED {
            ProblemKind::Interrupted
        } else {
            ProblemKind::User
        };
        Problem {
            message: w.message,
            hints: w.hints,
            kind: w.kind.unwrap_or(told),
            also: w.also,
        }
    }
}

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Problem {
            message: message.into(),
            hints: Vec::new(),
            kind: ProblemKind::User,
            also: Vec::new(),
        }
    }

    /// Returns the problem with the kind of its `cause`.
    pub(crate) fn caused_by(mut self, cause: &(impl Cause + ?Sized)) -> Self {
        self.kind = cause.kind();
        self
    }

    /// Returns the problem with another kind.
    pub(crate) fn of_kind(mut self, kind: ProblemKind) -> Self {
        self.kind = kind;
        self
    }

    /// Returns the problem, and those found with it, with a kind for those that have none.
    pub(crate) fn about(mut self, kind: ProblemKind) -> Self {
        if self.kind == ProblemKind::User {
            self.kind = kind;
        }
        self.also = self.also.into_iter().map(|p| p.about(kind)).collect();
        self
    }

    /// Returns the exit code of a command that fails with this problem.
    pub(crate) fn exit(&self) -> u8 {
        match self.kind {
            ProblemKind::Interrupted => EXIT_INTERRUPTED,
            // As a shell has it.
            ProblemKind::NoProgram => 127,
            _ => EXIT_ERROR,
        }
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.kind == ProblemKind::Interrupted
    }

    /// Returns the problem with one more hint.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn interrupted() -> Self {
        Problem {
            kind: ProblemKind::Interrupted,
            ..Problem::new("interrupted")
        }
    }

    /// Combines several problems into one, in the order in which they were found.
    pub(crate) fn from_many(problems: Vec<Problem>) -> Self {
        let interrupted = problems.iter().any(Problem::is_interrupted);
        let mut rest = problems.into_iter();
        let mut first = rest
            .next()
            .unwrap_or_else(|| Problem::new("no problem at all"));
        first.also.extend(rest);
        if interrupted {
            first.kind = ProblemKind::Interrupted;
        }
        first
    }

    /// Returns what to do about the failed system call; `None` if the problem has its own hint.
    pub(crate) fn io_hint(&self) -> Option<&'static str> {
        match self.kind {
            ProblemKind::Io(kind) if self.hints.is_empty() => kind.hint(),
            _ => None,
        }
    }

    /// Returns this problem and the others found with it.
    pub(crate) fn each_problem(&self) -> Vec<&Problem> {
        std::iter::once(self)
            .chain(self.also.iter().flat_map(|p| p.each_problem()))
            .collect()
    }

    /// Returns the problem with `prefix` before every message.
    pub(crate) fn with_prefix(mut self, prefix: &str) -> Self {
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

/// An error from which a [`Problem`] can be made.
pub(crate) trait Cause: fmt::Display {
    /// Returns the kind, by which code decides.
    fn kind(&self) -> ProblemKind {
        ProblemKind::User
    }
}

impl Cause for std::io::Error {
    fn kind(&self) -> ProblemKind {
        ProblemKind::Io(self.into())
    }
}

impl Cause for Problem {
    fn kind(&self) -> ProblemKind {
        self.kind
    }
}

impl Cause for String {}
impl Cause for &str {}
impl Cause for serde_json::Error {}
impl Cause for toml::de::Error {}
impl Cause for toml_edit::TomlError {}
impl Cause for pep508_rs::Pep508Error {}
impl Cause for pep508_rs::pep440_rs::VersionParseError {}

/// Adds the attempted action to a lower error: `open(..).context("open /etc/x")?`.
pub(crate) trait Context<T> {
    fn context(self, what: &str) -> Result<T>;
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Cause> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &str) -> Result<T> {
        self.with_context(|| what.into())
    }
    fn with_context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Problem::new(format!("could not {}: {e}", what())).caused_by(&e))
    }
}
