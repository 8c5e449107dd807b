//! Starts comfy's own program in another role: nothing of the environment, no descriptor but those
//! that are handed over, and one line of JSON that says what to do.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::errno::Errno;
use nix::libc;

use super::Role;
use crate::host::{env, lines, tools};
use crate::problem::{Context, Problem, Result};

/// The folders of programs that comfy's own processes know.
pub(crate) const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Comfy's own program in another role, with a pipe to it and one back.
pub(crate) struct RoleProcess {
    pub child: Child,
    pub stdin: ChildStdin,
    pub reader: BufReader<ChildStdout>,
}

impl RoleProcess {
    /// Takes the pipes of a child that was started with both of them.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn from_child(mut child: Child) -> Result<RoleProcess> {
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (stdin, stdout) = pipes.ok_or_else(|| Problem::new("no pipes to the root side"))?;
        Ok(RoleProcess {
            child,
            stdin,
            reader: BufReader::new(stdout),
        })
    }

    /// Receives the next message, a line of JSON; what sudo or PAM print on stdout is passed over.
    /// `None`: there is no more.
    pub(crate) fn recv<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        let mut line = String::new();
        while self.reader.read_line(&mut line).ok()? > 0 {
            if let Ok(message) = serde_json::from_str(&line) {
                return Some(message);
            }
            line.clear();
        }
        None
    }
}

/// Finds the program that runs now; on Linux by its inode, whatever its path leads to by now.
///
/// # Errors
/// The system does not tell.
pub(crate) fn own_program() -> std::io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() {
        Ok(running)
    } else {
        std::env::current_exe()
    }
}

/// Prepares comfy's own program in another role, with a pipe to it and nothing of the environment.
///
/// # Errors
/// The program cannot be found.
pub(crate) fn role_command(role: Role) -> Result<Command> {
    let own = own_program().context("find comfy's own program")?;
    Ok(plain_command(own, &[OsStr::new(role.subcommand())]))
}

/// The same in the session that launchd keeps for `uid`, rather than in the caller's: with the
/// latter's, a process reaches the owner's clipboard and applications, whatever its uid
/// (launchctl(1), asuser, which leaves the credentials as they are).
///
/// # Errors
/// As [`role_command`].
pub(crate) fn role_command_in_session(role: Role, uid: u32) -> Result<Command> {
    // By its path: another program starts it.
    let own = std::env::current_exe().context("find comfy's own program")?;
    let uid = uid.to_string();
    let arguments = [
        OsStr::new("asuser"),
        OsStr::new(&uid),
        own.as_os_str(),
        OsStr::new(role.subcommand()),
    ];
    Ok(plain_command(tools::located(tools::LAUNCHCTL), &arguments))
}

#[expect(
    clippy::disallowed_methods,
    reason = "comfy itself, with a cleared environment"
)]
fn plain_command(program: PathBuf, arguments: &[&OsStr]) -> Command {
    let mut c = Command::new(program);
    c.args(arguments)
        .env_clear()
        .envs(env::test_switches())
        .current_dir("/")
        .stdin(Stdio::piped());
    c
}

/// Lets `command` keep these descriptors, under their numbers.
pub(crate) fn inherit_fds(command: &mut Command, fds: &[&OwnedFd]) {
    let numbers: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    // SAFETY: fcntl(2) alone between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for n in &numbers {
                Errno::result(libc::fcntl(*n, libc::F_SETFD, 0))?;
            }
            Ok(())
        });
    }
}

/// Makes the pipe through which a role reports, to read and to write.
///
/// # Errors
/// The system's own.
pub(crate) fn report_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    Ok((reader.into(), writer.into()))
}

/// Tells a role what to do, as the first line of its stdin.
///
/// # Errors
/// It has no stdin.
pub(crate) fn send_config(child: &mut Child, config: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string(config).context("say what to start")?;
    let stdin = child
        .stdin
        .as_mut()
        .ok_or_else(|| Problem::new("no pipe to what was started"))?;
    // One that ended already says why by itself.
    let _ = writeln!(stdin, "{text}");
    Ok(())
}

/// What a role says when only its last step is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ReadyReport {
    /// Its process id; another one than that of the process that was started, if a program of the
    /// system's is in between.
    pub pid: i32,
    /// What it found missing on this system.
    pub lacking: Vec<String>,
}

/// What a role says first through its report pipe.
pub(crate) enum FirstReport {
    /// With the pipe for what comes later.
    Ready(ReadyReport, std::fs::File),
    /// It failed, or ended without a word.
    Failed(Option<Problem>),
}

/// Reads the line with which a role says that it is ready ([`super::serve::Report::ready`]).
pub(crate) fn read_first_report(mut report: std::fs::File) -> FirstReport {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while (text.len() as u64) < lines::WORD && report.read(&mut byte).is_ok_and(|n| n == 1) {
        if byte[0] != b'\n' {
            text.push(byte[0]);
        } else if let Ok(ready) = serde_json::from_slice(&text) {
            return FirstReport::Ready(ready, report);
        } else {
            break;
        }
    }
    FirstReport::Failed(read_report(report, &text))
}

/// Reads what a role reports until it is what it should be; `first` was read already. `None`: all
/// is well.
pub(crate) fn read_report(report: std::fs::File, first: &[u8]) -> Option<Problem> {
    let mut text = first.to_vec();
    // It comes from processes that are not root's any more.
    let _ = report.take(lines::WORD).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_matches('\0');
    (!text.is_empty()).then(|| {
        serde_json::from_str(text).unwrap_or_else(|_| Problem::new(crate::text::escape_text(text)))
    })
}

/// The number of this process, which what it starts compares with its parent.
pub(crate) fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_report_is_readiness_or_a_failure() {
        let told = |text: &str| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(text.as_bytes()).unwrap();
            drop(writer);
            match read_first_report(OwnedFd::from(reader).into()) {
                FirstReport::Ready(r, _) => format!("ready, {} lacks {:?}", r.pid, r.lacking),
                FirstReport::Failed(Some(p)) => format!("failed: {}", p.message),
                FirstReport::Failed(None) => "failed without a word".into(),
            }
        };
        let problem = serde_json::to_string(&Problem::new("no room")).unwrap();
        let all = [
            "{\"pid\":7,\"lacking\":[\"caches\"]}\n",
            &problem,
            "",
            "{\"pid\":7",
            "what\n",
        ];
        insta::assert_snapshot!(all.map(told).join("\n"), @r#"
        ready, 7 lacks ["caches"]
        failed: no room
        failed without a word
        failed: {"pid":7
        failed: what
        "#);
    }
}
