//! comfy from outside: the real program, real git repositories, and where root is there, real users
//! in a private machine.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests fail loudly and act from outside"
)]

mod accelerators;
mod architecture;
mod audit;
mod bad_input;
mod buckets;
mod compiled;
mod edit;
mod exclude;
mod front;
mod gateway;
mod hints;
mod history;
mod hostile_repo;
mod hub;
mod index;
mod json;
mod models;
mod packages;
mod python;
mod registry;
mod root;
mod scan;
mod support;
mod trees;
