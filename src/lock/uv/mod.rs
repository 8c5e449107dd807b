//! What uv is asked when packages are resolved, and what it answers.

pub mod request;
pub mod response;
