//! What is sealed against the sandbox user, and how comfy knows that it is still what was sealed.

pub(crate) mod file_list;
pub mod fingerprint;
pub(crate) mod generation_check;
pub(crate) mod list_tree;
pub(super) mod seal;
pub mod stat_cache;
pub(crate) mod verification;
