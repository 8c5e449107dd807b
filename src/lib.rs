//! comfy runs ComfyUI as another user of the machine, and keeps all of it as code. This page is the
//! map.
//!
//! ```text
//! comfy.toml ─ manifest ─┐
//!                        ├─► desired ─► kinds ─► Plan ─► approve ─► apply ──────────────► look again
//! comfy.lock ─── lock ───┘     (pure)           ▲   (data)             prepare (build uid), commit (root)
//!                                               │ kinds: one file a resource
//!                                     host ─► Look (reads)                  host ─► Act (changes)
//! ```
//!
//! * [`manifest`]: comfy.toml. `wire` is the shape on disk, `check` the rules and every mistake
//!   with its place.
//! * [`lock`]: comfy.lock. `resolve` asks repositories, `python` is what uv is asked and answers,
//!   `models` asks hubs and disks, `cover` compares with the manifest, `wire` is the file.
//! * [`tree`]: git trees as data: a listing, the hash it amounts to, and what no tree may hold.
//! * [`plan`]: PURE. Desired, observed facts, the difference as [`plan::Plan`], steps as a closed
//!   enum. It sees the machine through [`plan::look::Look`], which cannot change it; only [`apply`]
//!   gets a [`plan::look::Act`].
//! * [`ids`]: what things are called: addresses, parts, ids of generations and environments.
//! * [`desired`]: PURE. What manifest and lock amount to on one host.
//! * [`kinds`]: what a resource is, from its making to its end: one file each and one line in
//!   [`kinds::KINDS`].
//! * [`host`]: the only place for system calls, files, processes and the network. `machine` looks,
//!   `hands` act; `accounts` holds both platforms without `cfg`; `fs` works by descriptor;
//!   `generation` fetches, seals and assembles; `uv` finds the program and has it resolve; `python`
//!   finds an interpreter or has one fetched, `venv` fetches wheels and builds virtual environments
//!   of what they hold, `bytecode` compiles; `listed` seals a folder by a list of its files and
//!   compares it ever after; `models` asks for models, fetches, verifies and places them; `service`
//!   writes comfy's few files in folders of the system, `memory` and `terminal` are what a launch
//!   has of its own.
//! * [`confine`]: PURE. What a launched ComfyUI may touch, as data, with the reason of each;
//!   `host::confine` has the kernel do it.
//! * [`front`]: the process that holds ComfyUI's port: `admit` who gets in (pure), `relay` passes
//!   on.
//! * [`run`]: launching, in a terminal or in the background. `serve` looks once more, `start`
//!   starts front and ComfyUI, `cell` becomes the sandbox user, `watch` reads what ComfyUI says,
//!   `health` has everything loaded once after an apply; the manifest is not looked at.
//! * [`apply`]: one apply at a time; the loop over steps; the two sides of the elevation and what
//!   they say to each other.
//! * [`render`]: text, JSON and progress; everything from outside is escaped by [`text::escape`],
//!   but for a shell's, which passes [`render::screen`].
//! * [`doctor`]: what must not be possible, as a table, and a script that tries it as the sandbox
//!   user.
//! * [`cli`]: one file a command. [`demo`]: the embedded example.
//!
//! Arrows go one way: `cli → {apply, run, front, render, lock, demo} → {kinds, confine} → plan`;
//! `host` implements the traits that `plan` and `lock` declare. Where to start reading:
//! [`kinds::plan`], then [`apply::session::Session::run`].

pub mod apply;
pub mod cli;
pub mod confine;
pub mod demo;
pub mod desired;
pub mod doctor;
pub mod gateway;
pub mod host;
pub mod ids;
pub mod kinds;
pub mod launch;
pub mod lock;
pub mod manifest;
pub mod plan;
pub mod problem;
pub mod progress;
pub mod project;
pub mod records;
pub mod render;
pub mod roles;
#[cfg(test)]
mod testing;
pub mod text;
pub mod tree;
