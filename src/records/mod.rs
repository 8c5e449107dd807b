//! What one process of comfy records for another: what is running, how it exited, what loaded.

pub mod import_results;
pub mod running;
