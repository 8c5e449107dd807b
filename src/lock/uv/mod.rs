//! What uv is asked when packages are resolved, and what it answers.

use crate::problem::{IoKind, Problem, ProblemKind};

pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod variant;

/// Why uv did not do what it was asked. It becomes a [`Problem`] in one place, below.
#[derive(Debug)]
pub(crate) enum UvError {
    /// What uv said, without what is about a project that the user does not have.
    Said { kind: UvErrorKind, text: String },
    /// Comfy's own: uv was not asked, or was ended.
    Own(Problem),
}

/// What uv's error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UvErrorKind {
    /// The index did not answer.
    Unreachable,
    /// Whoever answered for the index has a certificate that nobody here trusts.
    ForeignCertificate,
    /// The index has another file than comfy.lock pins.
    HashMismatch,
    /// A signal ended it.
    Killed,
    Io(IoKind),
    Other,
}

/// What settles rustls's `UnknownIssuer`.
pub(crate) const CERTIFICATE_HINT: &str = "behind a proxy that decrypts TLS, name a file with its \
     certificate: SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt";

impl UvErrorKind {
    /// What to do about it, if comfy knows.
    pub(crate) fn hint(self) -> Option<&'static str> {
        match self {
            UvErrorKind::Unreachable => Some(
                "the package index did not answer, and nothing was changed: check the network, \
                 HTTPS_PROXY and UV_DEFAULT_INDEX, and run it again",
            ),
            UvErrorKind::ForeignCertificate => Some(CERTIFICATE_HINT),
            UvErrorKind::HashMismatch => Some(
                "the index has another file under that name than comfy.lock pins, and nothing \
                 was installed: ask whoever runs the index, or `comfy update` that package once \
                 you trust it",
            ),
            UvErrorKind::Killed => Some(
                "nothing was changed: is there enough memory? the kernel's log may tell; then \
                 run it again",
            ),
            UvErrorKind::Io(_) | UvErrorKind::Other => None,
        }
    }
}

impl From<UvErrorKind> for ProblemKind {
    fn from(kind: UvErrorKind) -> ProblemKind {
        match kind {
            UvErrorKind::Unreachable | UvErrorKind::ForeignCertificate => ProblemKind::Unreachable,
            UvErrorKind::Io(kind) => ProblemKind::Io(kind),
            UvErrorKind::HashMismatch | UvErrorKind::Killed | UvErrorKind::Other => {
                ProblemKind::User
            }
        }
    }
}

impl UvError {
    /// The same as a [`Problem`] that begins with `what`.
    pub(crate) fn into_problem(self, what: &str) -> Problem {
        match self {
            UvError::Own(p) => p,
            UvError::Said { kind, text } => {
                let p = Problem::new(format!("{what}{text}")).of_kind(kind.into());
                match kind.hint() {
                    Some(hint) => p.with_hint(hint),
                    None => p,
                }
            }
        }
    }
}

impl From<Problem> for UvError {
    fn from(p: Problem) -> UvError {
        UvError::Own(p)
    }
}

impl From<UvError> for Problem {
    fn from(e: UvError) -> Problem {
        e.into_problem("Python packages: ")
    }
}
