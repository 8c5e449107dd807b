//! What code and model files can do, found without running them.
//!
//! Everything here is data in, findings out: `host` reads the files, and a confined process of
//! comfy's own calls this room, since a parser that reads hostile bytes may crash.

pub(crate) mod acceptance;
pub(crate) mod capabilities;
pub(crate) mod carrier;
pub(crate) mod content;
pub(crate) mod finding;
mod javascript;
mod lines;
pub(crate) mod model_file;
mod notebook;
pub(crate) mod python;
pub(crate) mod report;
pub(crate) mod rules;
pub(crate) mod unit;
