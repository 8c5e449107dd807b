//! Comfy's own processes: how one is started in a [`Role`], how each of them begins, what they say
//! to each other, and the one way in which root is given up.
//!
//! [`spawn`] starts comfy's own program and tells it what to do, [`serve`] is the beginning of
//! every role, [`wire`] is a line of JSON and the progress that travels in it, [`credentials`]
//! changes whose process this is. Whoever reviews for security reads these files first.

pub mod credentials;
pub(crate) mod serve;
pub(crate) mod spawn;
pub(crate) mod wire;

pub(crate) use crate::roles::Role;
