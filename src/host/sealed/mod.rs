//! What is sealed against the sandbox user, and how comfy knows that it is still what was sealed.

pub mod file_list;
pub mod fingerprint;
pub mod generation_check;
pub mod list_tree;
pub(super) mod seal;
pub mod stat_cache;
pub mod verification;
