//! What one process of comfy leaves for another: who runs, how it ended, what loaded.

pub mod import_results;
pub mod running;
