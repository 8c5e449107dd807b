//! Known trouble with what is pinned: [`osv`] reads advisories, [`table`] has those of comfy's own,
//! [`matching`] compares parts with them, [`packages`] is what uv is asked of packages and answers,
//! [`similar`] knows names that are one letter from a popular one, [`sources`] compares a wheel with
//! its repository, [`windows`] says when something was pinned.

pub(crate) mod finding;
pub(crate) mod matching;
pub(crate) mod osv;
pub(crate) mod packages;
pub(crate) mod similar;
pub(crate) mod sources;
pub(crate) mod table;
pub(crate) mod windows;
