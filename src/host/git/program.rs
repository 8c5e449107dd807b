//! The git program with a scrubbed environment.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::error::{GitError, GitErrorKind};
use super::{FETCH_LIMIT, GitStore, RemoteAnswer};
use crate::lock::difference::{CommitLine, CommitRange};
use crate::problem::{Context, Problem, Result};
use crate::progress::Progress;
use crate::tree::ObjectId;

/// A command that inherits nothing but proxies and certificates, and reads its settings from its
/// environment: those come after every file's (git-config(1), GIT_CONFIG_COUNT). `more` are
/// settings of this one call.
#[expect(clippy::disallowed_methods, reason = "the only place that starts git")]
fn git_command(git: &GitStore, program: &Path, more: &[(String, String)]) -> Command {
    let mut c = Command::new(program);
    c.env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin")
        // None: ~/.netrc and ~/.config/git of a folder that others filled are nothing for it.
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", &git.config)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "/usr/bin/false")
        .env("GIT_SSH_COMMAND", "/usr/bin/false")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_ATTR_NOSYSTEM", "1")
        // git(1): a server that sends less for that many seconds is given up.
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1000")
        .env(
            "GIT_HTTP_LOW_SPEED_TIME",
            git.net.stall_timeout().to_string(),
        )
        .envs(&git.net.vars)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let settings: Vec<(&str, &str)> = super::settings::SETTINGS
        .iter()
        .copied()
        .chain(more.iter().map(|(k, v)| (k.as_str(), v.as_str())))
        .collect();
    for (i, (key, value)) in settings.iter().enumerate() {
        c.env(format!("GIT_CONFIG_KEY_{i}"), key)
            .env(format!("GIT_CONFIG_VALUE_{i}"), value);
    }
    c.env("GIT_CONFIG_COUNT", settings.len().to_string());
    c
}

/// The largest answer in bytes; a list of references is by far the longest.
const MOST: u64 = 64 << 20;

/// Runs it, reports progress from stderr, and stops it at the time limit or when comfy is
/// interrupted.
fn run_git(mut command: Command, url: &str, progress: &dyn Progress) -> Result<String, GitError> {
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    let mut stderr = child.stderr.take();
    let mut stdout = child.stdout.take();
    std::thread::scope(|s| {
        let out = s.spawn(move || {
            let mut text = Vec::new();
            if let Some(o) = stdout.as_mut() {
                // A broken pipe ends the text; the exit status says why.
                let _ = o.take(MOST).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        let err = s.spawn(move || {
            stderr
                .as_mut()
                .map(|e| read_messages(e, progress))
                .unwrap_or_default()
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().context("wait for git")? {
                break status;
            }
            if start.elapsed() > FETCH_LIMIT || crate::host::signals::is_interrupted() {
                // It may have exited already.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Problem::interrupted().into());
            }
            std::thread::sleep(std::time::Duration::from_millis(
                if start.elapsed().as_millis() < 200 {
                    2
                } else {
                    20
                },
            ));
        };
        let (out, err) = (
            out.join().unwrap_or_default(),
            err.join().unwrap_or_default(),
        );
        if status.success() {
            Ok(out)
        } else {
            Err(GitError::of_program(url, &err))
        }
    })
}

fn read_messages(stderr: &mut impl Read, progress: &dyn Progress) -> String {
    let (mut kept, mut line, mut buf) = (String::new(), Vec::new(), [0u8; 4096]);
    while let Ok(n) = stderr.read(&mut buf) {
        if n == 0 {
            break;
        }
        for &b in &buf[..n] {
            if b != b'\r' && b != b'\n' {
                line.push(b);
                continue;
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            match parse_percent(&text) {
                Some(p) => progress.set_position(p, 100),
                None if kept.len() < 8192 && !text.trim().is_empty() => {
                    kept.push_str(text.trim());
                    kept.push('\n');
                }
                None => {}
            }
        }
    }
    kept + String::from_utf8_lossy(&line).trim()
}

/// `Receiving objects:  45% (9/20)` gives 45.
fn parse_percent(line: &str) -> Option<u64> {
    let (_, rest) = line
        .split_once("Receiving objects:")
        .or_else(|| line.split_once("Resolving deltas:"))
        .or_else(|| line.split_once("Counting objects:"))
        .or_else(|| line.split_once("Compressing objects:"))?;
    rest.trim_start().split('%').next()?.parse().ok()
}

/// Once more at the address where the server has the repository by now: git itself follows no
/// redirect, which could lead to any service that this machine reaches.
///
/// Returns that address too.
fn with_redirect<T>(
    git: &GitStore,
    url: &str,
    ask: impl Fn(&str) -> Result<T, GitError>,
) -> Result<(T, Option<String>), GitError> {
    match ask(url) {
        Err(e) if matches!(e.kind, GitErrorKind::Moved) => {
            let to = super::transport::final_address(&git.net, url)?;
            Ok((ask(&to)?, Some(to)))
        }
        other => Ok((other?, None)),
    }
}

/// Whether an address is more than another spelling of `url`.
pub(super) fn is_elsewhere(url: &str, to: &str) -> bool {
    let place = |address: &str| {
        let key = crate::manifest::names::repo_key(address);
        let place = key.split_once("://").map(|(_, place)| place.to_string());
        place.unwrap_or(key)
    };
    place(url) != place(to)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call of one program, spelled out"
)]
pub(super) fn fetch_with_git(
    git: &GitStore,
    program: &Path,
    folder: &Path,
    url: &str,
    specs: &[&str],
    depth: &[&str],
    filter: Option<&str>,
    progress: &dyn Progress,
) -> Result<(), GitError> {
    super::bare_repository::must_be_ours(folder)?;
    with_redirect(git, url, |url| {
        fetch_of(git, program, folder, url, specs, depth, filter, progress)
    })
    .map(drop)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call of one program, spelled out"
)]
fn fetch_of(
    git: &GitStore,
    program: &Path,
    folder: &Path,
    url: &str,
    specs: &[&str],
    depth: &[&str],
    filter: Option<&str>,
    progress: &dyn Progress,
) -> Result<(), GitError> {
    // What git would otherwise write into the repository's own configuration (git-clone(1),
    // --filter).
    let partial = |f: &str| {
        vec![
            (format!("remote.{url}.promisor"), "true".to_string()),
            (format!("remote.{url}.partialclonefilter"), f.to_string()),
        ]
    };
    let mut c = git_command(git, program, &filter.map(partial).unwrap_or_default());
    c.current_dir(folder)
        .args(["--git-dir", "."])
        .arg("fetch")
        .args([
            "--no-tags",
            "--force",
            "--progress",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
        ])
        .args(depth);
    if let Some(f) = filter {
        c.arg(format!("--filter={f}"));
    }
    c.arg("--end-of-options").arg(url).args(specs);
    let done = run_git(c, url, progress).map(drop);
    super::bare_repository::restore_config(folder)?;
    done
}

pub(super) fn ls_remote(
    git: &GitStore,
    program: &Path,
    url: &str,
    patterns: &[&str],
) -> Result<RemoteAnswer, GitError> {
    let ask = |url: &str| ls_remote_of(git, program, url, patterns);
    let (refs, moved_to) = with_redirect(git, url, ask)?;
    let moved_to = moved_to.filter(|to| is_elsewhere(url, to));
    Ok(RemoteAnswer { refs, moved_to })
}

fn ls_remote_of(
    git: &GitStore,
    program: &Path,
    url: &str,
    patterns: &[&str],
) -> Result<Vec<(String, String)>, GitError> {
    let mut c = git_command(git, program, &[]);
    // Outside every repository: git does not search the store or the folders above it for one.
    c.env("GIT_DIR", "/nonexistent")
        .current_dir("/")
        .arg("ls-remote")
        .arg("--end-of-options")
        .arg(url)
        .args(patterns);
    let out = run_git(c, url, &crate::progress::NoProgress)?;
    Ok(out
        .lines()
        .filter_map(|l| l.split_once('\t'))
        .map(|(oid, name)| (name.to_string(), oid.to_string()))
        .collect())
}

/// The commits in between; `None` if the server cannot send commits without their files.
pub(super) fn commits_between(
    git: &GitStore,
    program: &Path,
    folder: &Path,
    url: &str,
    old: &ObjectId,
    new: &ObjectId,
) -> Option<CommitRange> {
    let history = fetch_history(
        git,
        program,
        folder,
        url,
        &[&format!("+{new}:refs/remote/new")],
        "--depth=1000",
    )?;
    let (old, new) = (old.to_string(), new.to_string());
    Some(CommitRange {
        count: count_commits(git, program, &history, &new, &old)?,
        newest: list_commits(git, program, &history, &new, &old)?,
    })
}

/// The repository of commits alone beside the outline at `folder`, with what `specs` name.
pub(super) fn fetch_history(
    git: &GitStore,
    program: &Path,
    folder: &Path,
    url: &str,
    specs: &[&str],
    depth: &str,
) -> Option<PathBuf> {
    let history = folder.with_extension("history.git");
    super::bare_repository::init(&history).ok()?;
    // Commits alone are small; a server that ignores the filter is asked for no more than it takes
    // to count.
    fetch_with_git(
        git,
        program,
        &history,
        url,
        specs,
        &[depth],
        Some("tree:0"),
        &crate::progress::NoProgress,
    )
    .ok()?;
    Some(history)
}

/// The commit in full that begins with `short`, if the history here has one such commit.
pub(super) fn whole_commit(
    git: &GitStore,
    program: &Path,
    history: &Path,
    short: &str,
) -> Option<String> {
    let mut c = git_command(git, program, &[]);
    c.current_dir(history)
        .args(["--git-dir", ".", "rev-parse", "--verify", "--quiet"])
        .arg("--end-of-options")
        .arg(format!("{short}^{{commit}}"));
    let out = run_git(c, short, &crate::progress::NoProgress).ok()?;
    // A git before 2.30 repeats the option.
    let whole = out.lines().last()?.trim();
    crate::manifest::names::is_commit(whole).then(|| whole.to_string())
}

/// Commits of `of` that `without` does not have, as far as they are here.
pub(super) fn count_commits(
    git: &GitStore,
    program: &Path,
    history: &Path,
    of: &str,
    without: &str,
) -> Option<usize> {
    let revisions = ["--end-of-options", of, &format!("^{without}")];
    count_revisions(git, program, history, &revisions)
}

/// Commits of `of` that no ref below `refs` has, as far as they are here.
pub(super) fn count_unreached(
    git: &GitStore,
    program: &Path,
    history: &Path,
    of: &str,
    refs: &str,
) -> Option<usize> {
    let refs = format!("--glob={refs}");
    let revisions = ["--not", &refs, "--not", "--end-of-options", of];
    count_revisions(git, program, history, &revisions)
}

fn count_revisions(
    git: &GitStore,
    program: &Path,
    history: &Path,
    revisions: &[&str],
) -> Option<usize> {
    let mut c = git_command(git, program, &[]);
    c.current_dir(history)
        .args(["--git-dir", ".", "rev-list", "--count"])
        .args(revisions);
    let shown = history.to_string_lossy();
    let out = run_git(c, &shown, &crate::progress::NoProgress).ok()?;
    out.trim().parse().ok()
}

/// The newest commits of `of` that `without` does not have.
fn list_commits(
    git: &GitStore,
    program: &Path,
    history: &Path,
    of: &str,
    without: &str,
) -> Option<Vec<CommitLine>> {
    let mut c = git_command(git, program, &[]);
    c.current_dir(history)
        .args(["--git-dir", ".", "log", "--no-show-signature", "-z"])
        .arg(format!("--max-count={}", CommitRange::LISTED))
        .args(["--format=%H%x1f%an%x1f%s", "--end-of-options"])
        .arg(of)
        .arg(format!("^{without}"));
    let out = run_git(c, of, &crate::progress::NoProgress).ok()?;
    let line = |text: &str| {
        let mut fields = text.splitn(3, '\u{1f}').map(str::to_string);
        Some(CommitLine {
            commit: fields.next()?,
            author: fields.next()?,
            subject: fields.next()?,
        })
    };
    Some(out.split('\0').filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Sends `/moved` to `to`, and has one reference otherwise; tells what it was asked.
    fn server(to: &str) -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, asked) = channel();
        let to = to.to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map_while(std::result::Result::ok)
                    .take_while(|l| !l.is_empty());
                let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_string();
                lines.for_each(drop);
                let refs = format!(
                    "001e# service=git-upload-pack\n0000003e{} refs/heads/main\0\n0000",
                    "a".repeat(40)
                );
                let (head, body) = match path.strip_prefix("/moved") {
                    Some(rest) => (
                        format!("301 Moved\r\nLocation: {to}/now{rest}"),
                        String::new(),
                    ),
                    None => (
                        "200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement"
                            .into(),
                        refs,
                    ),
                };
                let _ = tell.send(path);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        (url, asked)
    }

    #[test]
    fn a_repository_moves_on_its_own_server_alone() {
        let Some(program) = ["/usr/bin/git", "/usr/local/bin/git"]
            .iter()
            .map(Path::new)
            .find(|p| p.exists())
        else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let git = GitStore {
            home: None,
            program: Some(program.into()),
            net: Default::default(),
            store: folder.path().into(),
            offline: false,
            config: folder.path().join("config"),
        };
        std::fs::write(&git.config, super::super::settings::config_text()).unwrap();
        let ask = |url: &str| ls_remote(&git, program, &format!("{url}/moved"), &[]);
        let (service, asked) = server("");
        let (here, _) = server("");
        let answer = ask(&here).unwrap();
        assert_eq!(
            answer.refs,
            [("refs/heads/main".to_string(), "a".repeat(40))]
        );
        assert_eq!(answer.moved_to, Some(format!("{here}/now")));
        // The same machine, and another name.
        let (elsewhere, _) = server(&service.replace("127.0.0.1", "localhost"));
        let refused = Problem::from(ask(&elsewhere).err().unwrap());
        assert!(
            refused
                .message
                .contains("/moved redirects to another server: http://localhost:"),
            "{refused:?}"
        );
        assert!(
            asked
                .try_iter()
                .all(|path| path.starts_with("/now/info/refs")),
            "git itself does not go there"
        );
    }
}
