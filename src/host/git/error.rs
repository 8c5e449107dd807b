//! Why git, the program or the library, failed.

use crate::problem::{IoKind, Problem, ProblemKind};

/// Why git failed. It becomes a [`Problem`] in one place, below.
#[derive(Debug)]
pub(super) struct GitError {
    pub kind: GitErrorKind,
    /// The connection ended before the answer was complete: comfy makes no more requests to this
    /// server.
    pub broken_off: bool,
    /// The address, and git's message.
    text: String,
}

/// What git's error is about.
#[derive(Debug)]
pub(super) enum GitErrorKind {
    /// The repository has moved to another address.
    Moved,
    /// The server does not answer.
    Unreachable,
    /// The server has no such repository, or hides it from us.
    NoRepository {
        of_comfy_toml: bool,
    },
    StorageFull,
    /// The server stalled.
    Stalled,
    /// The answer is not what was requested.
    Damaged,
    /// Any other error, for which comfy has no advice.
    Other,
    /// comfy's own error: git was not started, or was stopped.
    Own(Problem),
}

/// Messages of git if the repository does not exist.
const NO_REPOSITORY: &[&str] = &[
    "not found",
    "does not appear to be a git repository",
    "could not read from remote repository",
    "does not exist",
    "could not read username",
    "terminal prompts disabled",
];

/// Messages of git if the server does not answer.
const UNREACHABLE: &[&str] = &[
    "could not resolve host",
    "could not connect",
    "connection refused",
    "timed out",
];

/// Messages of git if a connection ended early.
const BROKEN_OFF: &[&str] = &[
    "operation too slow",
    "transfer closed",
    "timed out",
    "early eof",
    "unexpected disconnect",
    "the remote end hung up",
    "recv failure",
];

/// Messages of git if a pack is damaged or incomplete.
const DAMAGED: &[&str] = &[
    "bad object",
    "did not send all",
    "index-pack",
    "inflate",
    "pack",
    "corrupt",
    "protocol error",
    "bad line length",
    "missing",
    "unexpected",
    "expected",
];

fn says(text: &str, words: &[&str]) -> bool {
    words.iter().any(|w| text.contains(w))
}

impl GitError {
    /// Interprets the git program's message about `url`: the only place that knows these messages.
    pub(super) fn of_program(url: &str, stderr: &str) -> GitError {
        let last = stderr
            .lines()
            .find(|l| l.contains("fatal:") || l.contains("error:"))
            .or(stderr.lines().last())
            .unwrap_or("no message");
        let message = crate::text::escape_text(
            last.trim_start_matches("fatal: ")
                .trim_start_matches("error: "),
        );
        let lower = stderr.to_lowercase();
        // git-remote-http: "The requested URL returned error: 301".
        let kind = if url.starts_with("http") && message.contains("returned error: 30") {
            GitErrorKind::Moved
        } else if says(&lower, UNREACHABLE) {
            GitErrorKind::Unreachable
        } else if says(&lower, NO_REPOSITORY) {
            GitErrorKind::no_repository(url)
        } else if lower.contains("no space left") {
            GitErrorKind::StorageFull
        } else if says(&lower, BROKEN_OFF) {
            GitErrorKind::Stalled
        } else if says(&lower, DAMAGED) {
            GitErrorKind::Damaged
        } else {
            GitErrorKind::Other
        };
        GitError::new(kind, url, &message)
    }

    /// Interprets libgit2's message about `url`.
    pub(super) fn of_library(url: &str, e: &git2::Error) -> GitError {
        let folder = url.strip_prefix("file://");
        let kind = match e.code() {
            git2::ErrorCode::User => GitErrorKind::Own(Problem::interrupted()),
            git2::ErrorCode::NotFound => GitErrorKind::no_repository(url),
            _ if folder.is_some_and(|p| !std::path::Path::new(p).exists()) => {
                GitErrorKind::no_repository(url)
            }
            _ if folder.is_some() => GitErrorKind::Other,
            _ => GitErrorKind::Unreachable,
        };
        GitError::new(kind, url, &crate::text::escape_text(e.message()))
    }

    fn new(kind: GitErrorKind, url: &str, message: &str) -> GitError {
        GitError {
            kind,
            broken_off: says(&message.to_lowercase(), BROKEN_OFF),
            text: format!("{url}: {message}"),
        }
    }
}

impl GitErrorKind {
    fn no_repository(url: &str) -> GitErrorKind {
        GitErrorKind::NoRepository {
            // comfy.toml names only https:// addresses.
            of_comfy_toml: url.starts_with("https://"),
        }
    }
}

impl From<Problem> for GitError {
    fn from(p: Problem) -> GitError {
        GitError {
            kind: GitErrorKind::Own(p),
            broken_off: false,
            text: String::new(),
        }
    }
}

impl From<GitError> for Problem {
    fn from(e: GitError) -> Problem {
        let p = Problem::new(e.text);
        match e.kind {
            GitErrorKind::Own(p) => p,
            GitErrorKind::Unreachable => p.of_kind(ProblemKind::Unreachable).with_hint(
                "check the network and run it again; with --offline, `comfy lock` and `comfy apply` \
                 use only what was fetched before",
            ),
            GitErrorKind::NoRepository { of_comfy_toml } => p.with_hint(if of_comfy_toml {
                "no such public repository: check owner and name"
            } else {
                "COMFY_MIRRORS points there, but it has no such repository"
            }),
            GitErrorKind::StorageFull => p
                .of_kind(ProblemKind::Io(IoKind::StorageFull))
                .with_hint("free some disk space and run it again"),
            GitErrorKind::Stalled => p
                .of_kind(ProblemKind::Unreachable)
                .with_hint("the server stalled or closed the connection: run it again"),
            GitErrorKind::Damaged => p.with_hint(
                "the answer is not what was requested, and was not used: run it again, or fetch \
                    from another server (COMFY_MIRRORS)",
            ),
            GitErrorKind::Moved => p,
            // The disk's own words, among them.
            GitErrorKind::Other => {
                let kind = IoKind::of_words(&p.message).map(ProblemKind::Io);
                p.of_kind(kind.unwrap_or_default())
            }
        }
    }
}
