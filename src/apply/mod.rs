//! From an approved plan to a changed machine: one apply at a time, prepare, commit, look again,
//! write down.

pub mod commit;
pub mod elevated;
pub mod exclusive;
pub mod journal;
pub mod protocol;
pub mod root;
pub mod session;
