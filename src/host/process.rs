//! Running a program of the system: absolute path, cleared environment, captured output.

use std::path::Path;
use std::process::{Command, Stdio};

use super::roles::credentials;
use super::tools;
use crate::problem::{Problem, Result};

/// What a program said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProgramOutput {
    /// Exit code; 128 + N where signal N ended it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs programs: the real one is [`SystemRunner`], tests answer from transcripts.
pub(crate) trait ProgramRunner: Sync {
    /// # Errors
    /// When the program could not be started at all.
    fn run_program(&self, argv: &[&str]) -> std::io::Result<ProgramOutput>;
}

/// The real machine.
pub(crate) struct SystemRunner;

impl ProgramRunner for SystemRunner {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only place that starts system programs"
    )]
    fn run_program(&self, argv: &[&str]) -> std::io::Result<ProgramOutput> {
        use std::os::unix::process::ExitStatusExt;
        let (program, args) = argv
            .split_first()
            .ok_or_else(|| std::io::Error::other("no program"))?;
        let out = Command::new(tools::located(program))
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .output()?;
        let status = out
            .status
            .code()
            .unwrap_or_else(|| 128 + out.status.signal().unwrap_or(0));
        Ok(ProgramOutput {
            status,
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        })
    }
}

/// Kills every process of `uid` and waits until there is none.
///
/// # Errors
/// One does not end, or the system does not tell.
pub(crate) fn end_all_of(uid: u32) -> Result<()> {
    credentials::kill_all_of_uid(uid)?;
    for _ in 0..100 {
        let all = SystemRunner.run_program(&[tools::PS, "-axo", "uid=,state="]);
        // What ps(1) cannot say counts as alive.
        if all.is_ok_and(|o| o.status == 0 && !runs_any(uid, &o.stdout)) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(Problem::new(format!("a process of uid {uid} does not end"))
        .with_hint(format!("kill it: sudo pkill -9 -U {uid}")))
}

/// Whether a list of uids and states has a process of `uid` that is no zombie.
fn runs_any(uid: u32, list: &str) -> bool {
    list.lines().any(|l| {
        let mut fields = l.split_whitespace();
        fields.next().and_then(|f| f.parse().ok()) == Some(uid)
            && fields.next().is_none_or(|state| !state.starts_with('Z'))
    })
}

/// Processes of `uid`. `None`: the system does not tell, or hides those of others (proc(5),
/// hidepid).
pub(crate) fn count_of(uid: u32) -> Option<usize> {
    if Path::new("/proc/self/status").exists() {
        let uid_of = |s: String| {
            s.lines().find_map(|l| {
                l.strip_prefix("Uid:")?
                    .split_whitespace()
                    .next()?
                    .parse::<u32>()
                    .ok()
            })
        };
        let all = std::fs::read_dir("/proc")
            .ok()
            .filter(|_| Path::new("/proc/1/status").exists())?;
        return Some(
            all.flatten()
                .filter_map(|e| uid_of(std::fs::read_to_string(e.path().join("status")).ok()?))
                .filter(|u| *u == uid)
                .count(),
        );
    }
    let out = SystemRunner
        .run_program(&[tools::PS, "-axo", "uid="])
        .ok()
        .filter(|o| o.status == 0)?;
    Some(
        out.stdout
            .lines()
            .filter(|l| l.trim().parse() == Ok(uid))
            .count(),
    )
}

/// Bytes of memory that all processes of `uid` hold: resident sets, so that shared pages count in
/// each (proc_pid_status(5), ps(1)). `None`: the system does not tell.
pub(crate) fn memory_of(uid: u32) -> Option<u64> {
    let kib = |line: &str| line.split_whitespace().find_map(|w| w.parse::<u64>().ok());
    if Path::new("/proc/self/status").exists() {
        let all = std::fs::read_dir("/proc")
            .ok()?
            .flatten()
            .filter_map(|e| std::fs::read_to_string(e.path().join("status")).ok());
        let field =
            |s: &str, name: &str| s.lines().find_map(|l| l.strip_prefix(name).and_then(kib));
        return Some(
            all.filter(|s| field(s, "Uid:") == Some(u64::from(uid)))
                .filter_map(|s| field(&s, "VmRSS:"))
                .sum::<u64>()
                * 1024,
        );
    }
    let out = SystemRunner
        .run_program(&[tools::PS, "-axo", "uid=,rss="])
        .ok()
        .filter(|o| o.status == 0)?;
    let own = |l: &&str| l.split_whitespace().next() == Some(uid.to_string().as_str());
    Some(
        out.stdout
            .lines()
            .filter(own)
            .filter_map(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum::<u64>()
            * 1024,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_does_not_count_as_running() {
        // `ps -axo uid=,state=` of macOS.
        let list = "    0 Ss\n  501 S+\n  441 Z\n  441 ?E\n 4410 R\n";
        assert!(runs_any(441, list) && runs_any(501, list));
        let zombies = list.replace("  441 ?E\n", "");
        assert!(!runs_any(441, &zombies) && !runs_any(410, &zombies));
    }
}
