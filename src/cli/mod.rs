//! The commands, one file each: its arguments, and `run`. What a command does is implemented
//! elsewhere.

mod accept;
mod add;
mod apply;
mod approval;
mod audit;
mod audit_findings;
mod audit_history;
mod audit_pins;
mod audit_sources;
mod bisect;
mod bisect_files;
mod bisect_try;
mod cache;
mod check;
mod completions;
mod dedupe;
mod demo;
mod destroy;
mod doctor;
mod exec;
mod export;
mod gc;
mod help;
mod history;
mod import_check;
mod init;
mod list;
mod list_instances;
mod lock;
mod logs;
mod man;
mod model;
mod open;
mod outdated;
mod outdated_pins;
mod plan;
mod remove;
mod restart;
mod review;
mod rollback;
mod run;
mod scan;
mod scan_pins;
mod set;
mod shell;
mod start;
mod status;
mod status_columns;
mod stop;
mod target;
mod update;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::problem::{EXIT_ERROR, Problem, Result};
use super::render::{self, ColorChoice};
use super::roles::Role;
use crate::desired::Desired;
use crate::project::{ComfyProject, ProjectArgs};

/// The version, and in a release the commit that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("COMFY_BUILD"), ")");

/// Run ComfyUI as a separate user, at full speed, with the whole setup as code.
///
/// comfy.toml declares the setup you want, and comfy.lock pins it. `comfy plan` shows what would
/// change on this machine; `comfy apply` changes it. `comfy history` lists
/// the commits of comfy.lock, and `comfy rollback` goes back to an earlier one.
#[derive(Parser)]
#[command(
    name = "comfy",
    version = VERSION,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
#[command(
    after_help = "Examples:\n  comfy demo                  the whole cycle on an embedded example, \
        without root and network\n  comfy init && comfy lock    write a first comfy.toml and pin \
        it\n  comfy plan                  show what would change on this machine\n  comfy \
        apply                 change it\n\nExit codes: 0 success, 1 error, 130 interrupted; 2 \
        differences or findings: plan\n--exit-code, lock --check, outdated --exit-code, verify, \
        doctor, scan, audit. exec and shell return the\nprogram's own exit code.\n\nEnvironment:\n  \
        COMFY_MIRRORS               FROM=TO;…: fetch repositories from another place\n  \
        COMFY_ADVISORY_SERVICE      whom to ask for advisories of packages, in OSV's API, or off\n                              [default: https://api.osv.dev]\n  \
        COMFY_UV                    the uv to use [default: from PATH, else a pinned one that \
        comfy fetches]\n  HF_TOKEN, HF_ENDPOINT, CIVITAI_API_TOKEN, CIVITAI_ENDPOINT, AWS_…, \
        GOOGLE_…, AZURE_…\n                              servers and keys for fetching models\n  \
        NO_COLOR                    no colours"
)]
struct CommandLine {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args, Clone)]
pub(crate) struct GlobalArgs {
    #[command(flatten)]
    pub project: ProjectArgs,
    /// When to use colours
    #[arg(long, value_enum, default_value = "auto", global = true)]
    pub color: ColorChoice,
    /// Print only results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more: every file that differs, with its diff
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Print one JSON object; `comfy help --json` describes it
    #[arg(long, global = true)]
    pub json: bool,
}

impl AsRef<ProjectArgs> for GlobalArgs {
    fn as_ref(&self) -> &ProjectArgs {
        &self.project
    }
}

#[derive(Subcommand)]
enum Command {
    Init(init::InitArgs),
    Add(add::AddArgs),
    Remove(remove::RemoveArgs),
    Set(set::SetArgs),
    Check(check::CheckArgs),
    List(list::ListArgs),
    Lock(lock::LockArgs),
    Update(update::UpdateArgs),
    Outdated(outdated::OutdatedArgs),
    History(history::HistoryArgs),
    Rollback(rollback::RollbackArgs),
    Bisect(bisect::BisectArgs),
    Model(model::ModelArgs),
    Plan(plan::PlanArgs),
    Apply(apply::ApplyArgs),
    Run(run::RunArgs),
    Start(start::StartArgs),
    Stop(stop::StopArgs),
    Restart(restart::RestartArgs),
    Status(status::StatusArgs),
    Logs(logs::LogsArgs),
    Open(open::OpenArgs),
    Shell(shell::ShellArgs),
    Exec(exec::ExecArgs),
    Doctor(doctor::DoctorArgs),
    Verify(verify::VerifyArgs),
    Scan(scan::ScanArgs),
    Audit(audit::AuditArgs),
    Review(review::ReviewArgs),
    Accept(accept::AcceptArgs),
    Gc(gc::GcArgs),
    Dedupe(dedupe::DedupeArgs),
    Cache(cache::CacheArgs),
    Export(export::ExportArgs),
    Destroy(destroy::DestroyArgs),
    Demo(demo::DemoArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    Help(help::HelpArgs),
    #[command(name = Role::Root.subcommand(), hide = true)]
    Root,
    #[command(name = Role::Launcher.subcommand(), hide = true)]
    Launcher {
        /// The only instance that may be launched; sudo's rule names it.
        instance: Option<String>,
        /// The system starts it at boot, not a user.
        #[arg(long, requires = "instance")]
        boot: bool,
    },
    #[command(name = Role::Sandbox.subcommand(), hide = true)]
    Sandbox,
    #[command(name = Role::Gateway.subcommand(), hide = true)]
    Gateway,
    #[command(name = Role::Build.subcommand(), hide = true)]
    Build,
    #[command(name = Role::Probe.subcommand(), hide = true)]
    Probe,
    #[command(name = Role::LogWriter.subcommand(), hide = true)]
    LogWriter,
    #[command(name = Role::Parser.subcommand(), hide = true)]
    Parser,
    #[command(name = Role::Reviewer.subcommand(), hide = true)]
    Reviewer,
}

/// Parses the command line, runs the command, and prints errors.
pub fn main() -> ExitCode {
    if is_parser() {
        return crate::host::scan::serve_parser();
    }
    clap_complete::CompleteEnv::with_factory(clap_command)
        .var(completions::VARIABLE)
        .complete();
    let (cli, name) = match parse_arguments() {
        Ok(parsed) => parsed,
        Err(e) => {
            let asks_json = std::env::args_os().any(|a| a == "--json");
            if asks_json && e.use_stderr() {
                render::print_stdout(&render::json_output::usage_envelope(
                    &e.render().to_string(),
                ));
                return ExitCode::from(EXIT_ERROR);
            }
            // Help and version are not errors; bad usage exits with 1 here, not clap's 2.
            let code = if e.use_stderr() { EXIT_ERROR } else { 0 };
            // It repeats the arguments.
            let text = e.render().to_string();
            match crate::text::sanitize(&text, false) {
                std::borrow::Cow::Borrowed(_) => drop(e.print()),
                std::borrow::Cow::Owned(text) => render::print_stderr(text.trim_end()),
            }
            return ExitCode::from(code);
        }
    };
    match cli.command {
        Command::Launcher { instance, boot } => {
            return crate::launch::supervisor::serve_launch(instance, boot);
        }
        Command::Sandbox => return crate::launch::sandbox_process::serve_sandbox(),
        Command::Gateway => return crate::gateway::process::serve_gateway(),
        Command::Build => return crate::host::build::process::serve_job(),
        Command::Probe => return crate::launch::add_only_probe::serve_probe(),
        Command::LogWriter => return crate::launch::log_writer::serve_log(),
        Command::Reviewer => {
            return crate::host::scan::reviewer::serve_reviewer(render::print_problem);
        }
        Command::Parser => return crate::host::scan::serve_parser(),
        Command::Root => {
            return crate::apply::root_side::serve_apply(&target::scope_for_root);
        }
        _ => {}
    }
    // NO_COLOR is no-color.org's.
    let plain = crate::host::env::var("NO_COLOR").is_some()
        || crate::host::env::var("TERM").is_some_and(|t| t == "dumb");
    render::set_up(cli.global.color, cli.global.quiet, plain || cli.global.json);
    if cli.global.json {
        render::json_output::begin(&name, matches!(cli.command, Command::Apply(_)));
    }
    // These commands pass a second Ctrl-C on.
    crate::host::signals::install_handlers(!matches!(
        cli.command,
        Command::Run(_) | Command::Exec(_) | Command::Stop(_)
    ));
    let result = match (run(&cli), render::stdout_error()) {
        // The terminal's Ctrl-C also stops git and uv; their errors about it are of no interest.
        (Err(p), _) if !p.is_interrupted() && crate::host::signals::is_interrupted() => {
            Err(Problem::interrupted())
        }
        (Ok(_), Some(e)) => {
            Err(Problem::new(format!("could not write the output: {e}")).caused_by(e))
        }
        (result, _) => result,
    };
    render::json_output::finish(&result);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(p) => {
            if !cli.global.json {
                render::print_problem(&p);
            }
            ExitCode::from(p.exit())
        }
    }
}

/// Whether this is the process that parses for a scan. It takes no arguments, and to build the
/// table of all commands would take longer than to scan a small folder.
fn is_parser() -> bool {
    let words: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    matches!(&words[..], [word] if word == Role::Parser.subcommand())
}

/// The command line, and the command's name with that of its own subcommand.
fn parse_arguments() -> Result<(CommandLine, String), clap::Error> {
    let mut words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // As with cargo, docker and terraform.
    if words.len() == 2 && words[1] == "version" {
        words[1] = "--version".into();
    }
    let matches = clap_command().try_get_matches_from(words)?;
    let cli = CommandLine::from_arg_matches(&matches)?;
    let mut name = Vec::new();
    let mut here = &matches;
    while let Some((word, inner)) = here.subcommand() {
        name.push(word);
        here = inner;
    }
    let is_program = |c: &Command| {
        matches!(
            c,
            Command::Shell(_)
                | Command::Exec(_)
                | Command::Logs(_)
                | Command::Man(_)
                | Command::Completions(_)
        )
    };
    if cli.global.json && is_program(&cli.command) {
        return Err(clap_command().error(
            clap::error::ErrorKind::ArgumentConflict,
            format!(
                "`{}` does not take --json: it prints what others made",
                name.join(" ")
            ),
        ));
    }
    Ok((cli, name.join(" ")))
}

fn run(cli: &CommandLine) -> Result<u8> {
    let g = &cli.global;
    match &cli.command {
        Command::Init(a) => init::run(g, a),
        Command::Add(a) => add::run(g, a),
        Command::Remove(a) => remove::run(g, a),
        Command::Set(a) => set::run(g, a),
        Command::Check(a) => check::run(g, a),
        Command::List(a) => list::run(g, a),
        Command::Lock(a) => lock::run(g, a),
        Command::Update(a) => update::run(g, a),
        Command::Outdated(a) => outdated::run(g, a),
        Command::History(a) => history::run(g, a),
        Command::Rollback(a) => rollback::run(g, a),
        Command::Bisect(a) => bisect::run(g, a),
        Command::Model(a) => model::run(g, a),
        Command::Plan(a) => plan::run(g, a),
        Command::Apply(a) => apply::run(g, a),
        Command::Run(a) => run::run(g, a),
        Command::Start(a) => start::run(g, a),
        Command::Stop(a) => stop::run(g, a),
        Command::Restart(a) => restart::run(g, a),
        Command::Status(a) => status::run(g, a),
        Command::Logs(a) => logs::run(g, a),
        Command::Open(a) => open::run(g, a),
        Command::Shell(a) => shell::run(g, a),
        Command::Exec(a) => exec::run(g, a),
        Command::Doctor(a) => doctor::run(g, a),
        Command::Verify(a) => verify::run(g, a),
        Command::Scan(a) => scan::run(g, a),
        Command::Audit(a) => audit::run(g, a),
        Command::Review(a) => review::run(g, a),
        Command::Accept(a) => accept::run(g, a),
        Command::Gc(a) => gc::run(g, a),
        Command::Dedupe(a) => dedupe::run(g, a),
        Command::Cache(a) => cache::run(g, a),
        Command::Export(a) => export::run(g, a),
        Command::Destroy(a) => destroy::run(g, a),
        Command::Demo(a) => demo::run(a),
        Command::Completions(a) => completions::run(a),
        Command::Man(a) => man::run(a),
        Command::Help(a) => help::run(g, a),
        Command::Root
        | Command::Launcher { .. }
        | Command::Sandbox
        | Command::Gateway
        | Command::Build
        | Command::Probe
        | Command::LogWriter
        | Command::Parser
        | Command::Reviewer => Ok(EXIT_ERROR),
    }
}

/// Returns the whole command, for completions and the manual page.
pub(crate) fn clap_command() -> clap::Command {
    CommandLine::command()
}

/// Warns, once for each command, what isolation "none" and open ports mean.
fn announce_isolation(project: &ComfyProject) {
    if !project.is_isolated() {
        render::print_note(if nix::unistd::geteuid().is_root() {
            "isolation = \"none\" as root: ComfyUI and its nodes can do anything on this machine; \
             nothing is protected."
        } else {
            "isolation = \"none\": ComfyUI and its nodes have all your rights; nothing is protected."
        });
    }
    if project.manifest.comfyui.allow_remote {
        render::print_warning("comfyui.allow_remote = true: other machines can reach ComfyUI");
    }
}

/// The desired state of this machine; prints the warnings about the lock.
fn desired_state(project: &ComfyProject) -> Result<Desired> {
    let (desired, warnings) = project.desired_state()?;
    for warning in warnings {
        render::print_warning(&warning);
    }
    Ok(desired)
}
