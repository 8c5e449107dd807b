//! Runs the program of `policy.reviewer` confined: it reads the diff on stdin and the system's own
//! files, may use the network, and sees nothing of the owner's.

use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::confine::{Confinement, PathAccess, PathOwner, PathRule, places};
use crate::host::machine::operating_system;
use crate::host::roles::Role;
use crate::host::roles::credentials;
use crate::host::roles::serve::{self, RoleConfig};
use crate::host::roles::spawn::{SYSTEM_PATH, inherit_fds, role_command, send_config};
use crate::host::{process, signals};
use crate::problem::{Context, Problem, Result};

/// How long a reviewer may think.
const PATIENCE: Duration = Duration::from_secs(900);
/// Bytes of what it prints.
const LONGEST: u64 = 16 << 20;

/// What the process is asked.
#[derive(serde::Serialize, serde::Deserialize)]
struct ReviewerConfig {
    program: PathBuf,
    arguments: Vec<String>,
    /// The diff.
    input: RawFd,
    parent: i32,
}

impl RoleConfig for ReviewerConfig {
    const WHAT: &'static str = "which reviewer to start";
}

/// Has the program read `diff`, and returns what it prints.
///
/// # Errors
/// It is not there; it cannot be confined; it fails; Ctrl-C.
pub(crate) fn run_reviewer(command: &[String], diff: &str) -> Result<Vec<u8>> {
    let Some((name, arguments)) = command.split_first() else {
        return Err(Problem::new("policy.reviewer names no program"));
    };
    let program = find_program(name)?;
    let what = || format!("start the reviewer {}", program.display());
    let mut input = tempfile::tempfile().with_context(what)?;
    input.write_all(diff.as_bytes()).with_context(what)?;
    input.rewind().with_context(what)?;
    let input = OwnedFd::from(input);
    let mut role = role_command(Role::Reviewer)?;
    inherit_fds(&mut role, &[&input]);
    role.env("PATH", SYSTEM_PATH).stdout(Stdio::piped());
    let mut child = role.spawn().with_context(what)?;
    let config = ReviewerConfig {
        program: program.clone(),
        arguments: arguments.to_vec(),
        input: input.as_raw_fd(),
        parent: nix::unistd::getpid().as_raw(),
    };
    send_config(&mut child, &config)?;
    let Some(stdout) = child.stdout.take() else {
        return Err(Problem::new("no pipe from the reviewer"));
    };
    let reading = std::thread::spawn(move || {
        let mut printed = Vec::new();
        stdout
            .take(LONGEST)
            .read_to_end(&mut printed)
            .map(|_| printed)
    });
    let begun = Instant::now();
    let mut status = None;
    while !reading.is_finished() || status.is_none() {
        if status.is_none() {
            status = child.try_wait().with_context(what)?;
        }
        std::thread::sleep(Duration::from_millis(20));
        let late = begun.elapsed() > PATIENCE;
        if late || signals::is_interrupted() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(if late {
                Problem::new("the reviewer of policy.reviewer took longer than 15 minutes")
            } else {
                Problem::interrupted()
            });
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait().with_context(what)?,
    };
    let printed = reading
        .join()
        .map_err(|_| Problem::new("the reviewer's answer could not be read"))?
        .with_context(|| "read the reviewer's answer".to_string())?;
    if !status.success() {
        return Err(Problem::new(format!(
            "the reviewer {} failed ({status})",
            program.display()
        ))
        .with_hint(
            "it runs without your files, your environment and your home: try it with \
             `env -i program < diff`",
        ));
    }
    Ok(printed)
}

/// An absolute path, or a name among the system's programs.
fn find_program(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    let found = if path.is_absolute() {
        Some(path.to_path_buf())
    } else {
        let folders = SYSTEM_PATH.split(':').map(Path::new);
        let mut places =
            folders.chain([Path::new("/usr/local/bin"), Path::new("/opt/homebrew/bin")]);
        places.find_map(|f| Some(f.join(name)).filter(|p| p.is_file()))
    };
    found.filter(|p| p.is_file()).ok_or_else(|| {
        Problem::new(format!(
            "policy.reviewer: there is no program {}",
            crate::text::escape_text(name)
        ))
        .with_hint("give its absolute path")
    })
}

/// Becomes the reviewer. Must be called while there is one thread.
pub(crate) fn serve_reviewer(tell: fn(&Problem)) -> ExitCode {
    serve::serve(tell, |config: ReviewerConfig, _| enter_reviewer(&config))
}

fn enter_reviewer(config: &ReviewerConfig) -> Result<u8> {
    nix::unistd::setsid().context("begin a session")?;
    serve::cloexec_from_3()?;
    serve::die_with_parent(config.parent)?;
    let input = serve::adopt_fd(config.input)?;
    nix::unistd::dup2_stdin(&input).context("hand over the diff")?;
    credentials::become_nobody()?;
    credentials::set_no_new_privs()?;
    confine(&config.program)?;
    Err(process::become_program(
        &config.program,
        &config.arguments,
        &[
            ("PATH", SYSTEM_PATH),
            ("HOME", "/nonexistent"),
            ("LANG", "C.UTF-8"),
        ],
    ))
}

/// Programs and libraries of the system, names of hosts, certificates, and the program itself.
fn confine(program: &Path) -> Result<()> {
    let os = operating_system();
    let system = places::for_builds(os).chain(places::for_fetching(os));
    let mut rules: Vec<PathRule> = system
        .map(|(path, may, why)| rule(PathBuf::from(path), may, why))
        .collect();
    let own = places::program_paths(program).into_iter();
    rules.extend(own.map(|path| rule(path, PathAccess::Run, "the reviewer")));
    let confinement = Confinement {
        rules,
        open_egress: true,
        ..Confinement::default()
    };
    #[cfg(target_os = "linux")]
    {
        use crate::host::confine::{landlock_rules, seccomp_filter};
        if landlock_rules::landlock_abi() < 1 {
            return Err(Problem::new(
                "this kernel has no Landlock, so policy.reviewer cannot be confined",
            )
            .with_hint("remove `reviewer` from [policy], or use a kernel that has it"));
        }
        landlock_rules::apply_rules(&confinement, &std::collections::BTreeMap::new())?;
        if seccomp_filter::is_available() {
            seccomp_filter::apply_without_services()?;
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        use crate::confine::seatbelt::SeatbeltProfile;
        use crate::host::confine::{darwin_user_dirs, sandbox_init};
        let profile = SeatbeltProfile::for_build(&confinement, true, &darwin_user_dirs());
        sandbox_init::apply_if_possible(&profile, true)?;
    }
    Ok(())
}

fn rule(path: PathBuf, may: PathAccess, why: &str) -> PathRule {
    PathRule {
        path,
        may,
        whose: PathOwner::System,
        why: why.into(),
    }
}
