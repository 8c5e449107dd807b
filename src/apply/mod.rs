//! From an approved plan to a changed machine: one apply at a time, prepare, commit, look again,
//! write down.

pub mod journal;
pub mod lock_file;
pub mod owner_side;
pub mod protocol;
pub mod root_side;
pub mod session;
