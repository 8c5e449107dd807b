//! comfy runs ComfyUI as another user of the machine and keeps the whole setup as code. This page
//! is the map of the code.
//!
//! ```text
//! comfy.toml ── manifest ─┐                       host: Look (reads)
//!                         ├─► desired ──► kinds ──────┴──► Plan ──► approval ──► apply ──► look again
//! comfy.lock ──── lock ───┘                                                        └── host: Act (changes)
//! ```
//!
//! # Where things are
//!
//! | question | answer |
//! |---|---|
//! | what comfy.toml may say | `manifest::validate`: a file for each section; `wire` is the shape on disk |
//! | how pins come about | [`lock::resolve`]; uv is asked by `lock::uv`; [`lock::coverage`] compares with the manifest |
//! | what should be on this machine | [`desired::Desired`], made of manifest, lock and [`desired::MachineContext`], without a look at the machine |
//! | what differs, and what is done about it | [`kinds`]: a file for each kind of resource, from its creation to its end |
//! | where a share's drift is decided | [`plan::share_rules::evaluate_entry`] for an entry, `kinds::share` for the share's own folder; `host::shares::check` walks and adds inherited access lists |
//! | in which order steps run, and why | [`plan::phase::Phase`] |
//! | the story of one apply | [`apply::session::ApplySession`], then [`plan::execute`] |
//! | what runs as root in an apply | [`apply::root_side`], started through `host::elevate`, runs the same [`apply::session`]; every step is an arm of [`host::executor`] |
//! | what runs as the build uid | [`host::build::work`], started by [`host::build::process`] |
//! | which system comfy decides for | [`manifest::platforms::OperatingSystem`], told by [`host::machine::operating_system`] alone; the system's programs by `host::tools` |
//! | who gives up root, and how | [`host::roles::credentials`], and nobody else |
//! | the story of one launch | [`launch::supervisor`]; `launch::sandbox_process` becomes ComfyUI |
//! | who may stop ComfyUI | `launch::processes::RunningLaunch::wait_for_end` decides: it hears the owner and root through [`launch::control`], whoever started the launch through `launch::stdio`, signals, and the gateway's exit |
//! | who gets in at ComfyUI's port | [`gateway::access`]; `gateway::relay` passes requests on |
//! | what a launched ComfyUI may touch | [`confine`], as data; `host::confine` has the kernel enforce it |
//! | where a message's hint comes from | beside the message: [`problem::Problem::with_hint`]; for a failed system call, [`problem::IoKind`]; for uv, `lock::uv`; for ComfyUI's log, [`launch::import_log`] |
//! | how comfy.toml is edited by commands | [`manifest::edit`], by whole lines; [`project::edit_manifest`] checks and writes |
//! | how a node that is no repository becomes code | `host::git::other_sources` makes a commit of what it holds; `host::build::assembly::own_folders` copies a folder of the owner's |
//! | what an installation or a snapshot becomes | [`adopt`], a file for each format; `host::installation` reads folders |
//! | what `--json` prints | `render::json_output`; the codes of errors are [`problem::ProblemKind`] |
//! | what moved between two locks | [`lock::difference`]; of the commits of comfy.lock, [`history`] |
//! | what a bisect tries next | [`bisect::PrefixSearch`]; the files of a try, [`bisect::mixture`] |
//! | what code and model files can do | [`scan`]: `scan::finding` is what is found, `scan::rules` the table of rules, a file for each family; `scan::unit` says which scanner a file gets |
//! | what parses files that nobody trusts | `host::scan::parser`, a process that can do nothing else; its threads are `host::scan::workers`; `host::scan::process` starts it, and `host::scan::watch` knows which file it crashed at |
//! | what people have accepted | [`lock::reviews`] is the record; `scan::acceptance` what it covers; [`review`] shows and makes it |
//! | whether a model file holds data alone | [`scan::model_file`], by content: `pickle::machine` runs a pickle without its calls, `pickle::globals` says what it may name |
//! | what is known against a pin | [`advisory`]: comfy's own table, `uv audit` and when something was pinned |
//! | what a command does | [`cli`]: a file for each command |
//!
//! To add a kind: its address in [`ids`], a file in [`kinds`], a line in [`kinds::KINDS`]; what root
//! writes into /etc is a `desired::system_files::FileKind`. To add a command: a file in [`cli`] and
//! its line in `cli::Command`.
//!
//! To read the code, start with [`kinds::plan`], then [`apply::session`].
//!
//! # Rooms
//!
//! A room uses those that stand after its name, and no others; pure rooms neither read nor change a
//! machine. `tests/it/architecture.rs` reads this table.
//!
//! ```text
//! pure    text
//! pure    problem
//! pure    progress
//! pure    ids
//! pure    roles
//! pure    safetensors  text
//! pure    manifest  text problem
//! pure    tree      text problem manifest
//! pure    workflow  text problem manifest
//! pure    adopt     text problem tree manifest
//! pure    lock      text problem progress safetensors tree manifest
//! pure    scan      text problem safetensors manifest lock
//! pure    advisory  text problem tree manifest lock scan
//! pure    desired   text problem ids roles manifest lock
//! pure    plan      text problem ids manifest lock desired
//! pure    kinds     text problem ids manifest lock desired plan
//! pure    confine   text manifest desired
//! pure    bisect    text problem manifest lock
//! effects render    text problem progress ids scan advisory manifest lock plan
//! effects host      text problem progress ids roles safetensors tree adopt scan advisory manifest lock desired plan confine
//! effects doctor    manifest plan
//! effects history   text problem lock host
//! effects review    text problem manifest lock scan tree host
//! effects records   text problem ids desired host
//! effects gateway   text problem manifest confine render host
//! effects launch    text problem ids manifest desired plan confine render host doctor records gateway
//! effects apply     text problem progress ids manifest desired plan kinds render host records
//! effects project   text problem manifest lock desired plan host
//! effects demo      text problem render host
//! effects cli       text problem progress ids roles safetensors tree workflow manifest adopt scan advisory lock desired plan kinds bisect render host history review doctor records gateway launch apply project demo
//! ```
//!
//! # Glossary
//!
//! * **owner**: the person who uses ComfyUI; **sandbox user**: the account that ComfyUI runs as;
//!   **build uid**, **gateway uid**: numbers of an instance that no account has.
//! * **instance**: everything that comfy made for one sandbox user below one prefix.
//! * **generation**: one complete, sealed tree of ComfyUI and its nodes, named by what it holds;
//!   `current` is the link to the **live** one. **staging**: where the next one is built.
//! * **part**: ComfyUI or one node. **pin**: the exact commit, wheel or hash of one thing.
//! * **address**: the name of a resource, such as `node.impact-pack`; **family**: what `--only`
//!   takes.
//! * **share**: a folder of the owner's that the sandbox user reads or writes; **traverse**: the
//!   search permission on a folder above one.
//! * **sealed**: owned by root, and compared by content; **fingerprint**: the sum of what stat(2)
//!   says of a tree.
//! * **finding**: a place that can do something; **capability**: its category; **intent**: what it is
//!   for; **carrier**: a file that brings code along. **acceptance**: a person's word for a tree.
//! * **drift**: a difference from what the last apply left. **unknown**: what could not be read,
//!   which is never taken for absent.
//! * **record**: a file that one process of comfy leaves for another. **role**: a hidden
//!   subcommand, one process of comfy's.
//! * **launch**: one run of ComfyUI with its supervisor, gateway and log writer; **confinement**:
//!   what it may touch. **egress**: connections out of it.

mod adopt;
mod advisory;
mod apply;
mod bisect;
pub mod cli;
mod confine;
pub mod demo;
pub mod desired;
mod doctor;
pub mod gateway;
mod history;
pub mod host;
mod ids;
mod kinds;
mod launch;
mod lock;
pub mod manifest;
mod plan;
mod problem;
mod progress;
mod project;
mod records;
pub mod render;
mod review;
mod roles;
mod safetensors;
mod scan;
#[cfg(test)]
mod testing;
mod text;
pub mod tree;
mod workflow;
