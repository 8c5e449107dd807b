//! comfy from outside: the real program, real git repositories, and where root is there, real users in a private machine.

mod bad_input;
mod root;
mod support;
