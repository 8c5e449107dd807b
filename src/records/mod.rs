//! What one process of comfy records for another: what is running, how it exited, what loaded.

pub(crate) mod import_results;
pub(crate) mod running;
