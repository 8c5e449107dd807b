//! Turns an approved plan into a changed machine: takes a lock, prepares, commits, checks the
//! result, and records it.

pub(crate) mod journal;
pub(crate) mod lock_file;
pub(crate) mod owner_side;
pub(crate) mod protocol;
pub(crate) mod root_side;
pub(crate) mod scope;
pub(crate) mod session;
