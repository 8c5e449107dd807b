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
    fn run_program(&self, argv: &[&str]) -> std::io::Result<ProgramOutput> {
        run_captured(argv, |_| {})
    }
}

/// The same as the uid and gid `id`, which gives up root first.
///
/// # Errors
/// It could not be started, or the caller is not root.
pub(crate) fn run_program_as(id: u32, argv: &[&str]) -> std::io::Result<ProgramOutput> {
    run_captured(argv, |command| credentials::run_as(command, id))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the only place that starts system programs"
)]
fn run_captured(
    argv: &[&str],
    prepare: impl FnOnce(&mut Command),
) -> std::io::Result<ProgramOutput> {
    use std::os::unix::process::ExitStatusExt;
    let (program, args) = argv
        .split_first()
        .ok_or_else(|| std::io::Error::other("no program"))?;
    let mut command = Command::new(tools::located(program));
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    prepare(&mut command);
    let out = command.output()?;
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

/// Becomes a program with this environment alone; returns only if it cannot.
#[expect(
    clippy::disallowed_methods,
    reason = "a confined process becomes what it was made for"
)]
pub(crate) fn become_program(
    program: &std::path::Path,
    arguments: &[String],
    environment: &[(&str, &str)],
) -> Problem {
    use std::os::unix::process::CommandExt;
    let failed = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir("/")
        .exec();
    Problem::new(format!("could not start {}: {failed}", program.display()))
}

/// The sum of the column MEM of top(1) in the rows of `uid`; `None`: it has no such table.
fn footprint_of(uid: u32, table: &str) -> Option<u64> {
    let mut lines = table
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    lines.find(|l| l[..] == ["UID", "MEM"])?;
    let bytes = |text: &str| {
        let text = text.trim_end_matches(['+', '-']);
        let unit = 1_u64
            << match text.chars().last()? {
                'B' => 0,
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                _ => return None,
            };
        text[..text.len() - 1]
            .parse::<u64>()
            .ok()?
            .checked_mul(unit)
    };
    let own = lines.filter(|l| l.first().and_then(|f| f.parse().ok()) == Some(uid));
    own.map(|l| bytes(l.get(1)?)).sum()
}

/// Kills every process of `uid` and waits until there is none.
///
/// # Errors
/// One does not end, or the system does not tell.
pub(crate) fn end_all_of(uid: u32) -> Result<()> {
    for _ in 0..100 {
        // Again each time: one may have started another meanwhile.
        credentials::kill_all_of_uid(uid)?;
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

/// Bytes of memory that all processes of `uid` hold: on macOS their footprint, with what the GPU
/// has of it (top(1)), else resident sets, so that shared pages count in each
/// (proc_pid_status(5), ps(1)). `None`: the system does not tell.
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
    let footprint = SystemRunner.run_program(&[tools::TOP, "-l", "1", "-stats", "uid,mem"]);
    if let Some(bytes) = footprint.ok().and_then(|o| footprint_of(uid, &o.stdout)) {
        return Some(bytes);
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
    fn memory_is_counted_as_top_shows_it() {
        // `top -l 1 -stats uid,mem` of macOS.
        let table = "Processes: 3 total\nLoad Avg: 1.0\n\nUID              MEM\n441              18G+\n501\
             \x20             9505K\n441              512M\n441              96B-\n";
        let gib = 1 << 30;
        assert_eq!(footprint_of(441, table), Some(18 * gib + gib / 2 + 96));
        assert_eq!(footprint_of(44, table), Some(0));
        assert_eq!(footprint_of(441, &table.replace("18G+", "N/A")), None);
        assert_eq!(footprint_of(441, "top: unknown option\n"), None);
    }

    #[test]
    fn a_zombie_does_not_count_as_running() {
        // `ps -axo uid=,state=` of macOS.
        let list = "    0 Ss\n  501 S+\n  441 Z\n  441 ?E\n 4410 R\n";
        assert!(runs_any(441, list) && runs_any(501, list));
        let zombies = list.replace("  441 ?E\n", "");
        assert!(!runs_any(441, &zombies) && !runs_any(410, &zombies));
    }
}
