//! Errors of libraries as causes of a [`Problem`](crate::problem::Problem).

use crate::problem::{Cause, IoKind, ProblemKind};

impl Cause for nix::errno::Errno {
    fn kind(&self) -> ProblemKind {
        ProblemKind::Io(IoKind::from(&std::io::Error::from(*self)))
    }
}

impl Cause for ureq::Error {
    fn kind(&self) -> ProblemKind {
        match self {
            ureq::Error::Io(e) => Cause::kind(e),
            ureq::Error::StatusCode(_) => ProblemKind::User,
            _ => ProblemKind::Unreachable,
        }
    }
}

impl Cause for zip::result::ZipError {
    fn kind(&self) -> ProblemKind {
        match self {
            zip::result::ZipError::Io(e) => Cause::kind(e),
            _ => ProblemKind::User,
        }
    }
}

impl Cause for git2::Error {}
impl Cause for std::ffi::NulError {}
impl Cause for getrandom::Error {}
impl Cause for rayon::ThreadPoolBuildError {}
impl Cause for object_store::path::Error {}
#[cfg(target_os = "linux")]
impl Cause for landlock::RulesetError {}
#[cfg(target_os = "linux")]
impl Cause for seccompiler::BackendError {}
#[cfg(target_os = "linux")]
impl Cause for seccompiler::Error {}
