//! Turns an approved plan into a changed machine: takes a lock, prepares, commits, checks the
//! result, and records it.

pub mod journal;
pub mod lock_file;
pub mod owner_side;
pub mod protocol;
pub mod root_side;
pub mod session;
