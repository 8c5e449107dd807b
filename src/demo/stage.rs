//! Runs a command as the user would, shows it with its output, and checks that it did what the
//! story says.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::place::DemoFolder;
use crate::host::{env, signals};
use crate::problem::{Context, EXIT_INTERRUPTED, Problem, Result};
use crate::render::{self, PaintStyle, paint};
use crate::text::without_colors as plain;

/// The variables that a command inherits; nothing else, such as sudo's variables and the user's
/// folders.
const INHERITED: [&str; 6] = ["PATH", "TERM", "COLUMNS", "LANG", "LC_ALL", "TMPDIR"];

/// Where commands run.
pub(crate) struct DemoTerminal<'a> {
    comfy: &'a Path,
    pub place: &'a DemoFolder,
    /// The meaning of isolation "none" was explained already.
    warned: bool,
}

/// How much of a command's output is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputDetail {
    All,
    /// A plan without the attributes of what is new and no node, and without its notes.
    Plan,
    /// From the plan's last line on: the plan itself was shown by the step before, or is plain.
    Outcome,
}

impl<'a> DemoTerminal<'a> {
    /// `comfy` is the program to run.
    pub(crate) fn new(comfy: &'a Path, place: &'a DemoFolder) -> Self {
        DemoTerminal {
            comfy,
            place,
            warned: false,
        }
    }

    /// A sentence before a command, or between two.
    pub(crate) fn print_explanation(&self, text: &str) {
        render::print_stdout(&format!("\n{text}"));
    }

    /// A command line, as the user would type it.
    pub(crate) fn print_command_line(&self, line: &str) {
        render::print_stdout(&paint(&format!("$ {line}"), PaintStyle::Bold));
    }

    /// Runs comfy in the dotfiles folder, shows the command and what it said, and demands the exit
    /// code and these words.
    ///
    /// # Errors
    /// Interrupted; or another exit code, or a word that is missing: then all of the output is
    /// shown.
    pub(crate) fn run_comfy(
        &mut self,
        args: &[&str],
        show: OutputDetail,
        code: i32,
        words: &[&str],
    ) -> Result<()> {
        let line = format!("comfy {}", args.join(" "));
        self.print_command_line(&line);
        let (is, text) = self.run_captured(args).map_err(|p| Problem {
            message: format!("the demo failed at `{line}`: {}", p.message),
            ..p
        })?;
        if signals::is_interrupted() || is == i32::from(EXIT_INTERRUPTED) {
            return Err(Problem::interrupted());
        }
        let bare = plain(&text);
        let fault = if is == code {
            words
                .iter()
                .find(|w| !bare.contains(**w))
                .map(|w| format!("it did not print \"{w}\""))
        } else {
            Some(format!("exit code {is}, but {code} was expected"))
        };
        if let Some(fault) = fault {
            render::print_stdout(text.trim_end());
            return Err(Problem::new(format!(
                "the demo failed at `{line}`: {fault}"
            )));
        }
        let shown = visible_part(&text, show, &mut self.warned);
        if !shown.is_empty() {
            render::print_stdout(&shown);
        }
        Ok(())
    }

    /// Starts `comfy run`, waits until it says these words, asks ComfyUI for /system_stats and ends
    /// it as Ctrl-C does.
    ///
    /// # Errors
    /// Interrupted; it ended early, or did not end as it should.
    pub(crate) fn serve_once(&self, address: &str, words: &[&str]) -> Result<String> {
        use std::io::BufRead;
        self.print_command_line("comfy run");
        let failed = |why: String| Problem::new(format!("the demo failed at `comfy run`: {why}"));
        let mut command = self.comfy_command(&["run"], "never");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", self.comfy.display()))?;
        let mut said = String::new();
        for line in std::io::BufReader::new(
            child
                .stderr
                .take()
                .ok_or_else(|| failed("no pipe".into()))?,
        )
        .lines()
        .map_while(std::result::Result::ok)
        {
            if !line.starts_with("isolation") {
                render::print_stdout(&line);
                said += &line;
            }
            if words.iter().all(|w| said.contains(w)) {
                break;
            }
        }
        let ready = words.iter().all(|w| said.contains(w));
        let answer = if ready {
            self.print_command_line(&format!("curl {address}/system_stats"));
            crate::host::net::http::local_agent()
                .get(format!("{address}/system_stats"))
                .call()
                .and_then(|mut r| r.body_mut().read_to_string())
                .map_err(|e| failed(e.to_string()))
        } else {
            Err(failed("it did not become ready".into()))
        };
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)),
            nix::sys::signal::Signal::SIGINT,
        );
        let status = child.wait().context("wait for it")?;
        let answer = answer?;
        render::print_stdout(&format!(
            "{} …",
            answer.trim_end().chars().take(110).collect::<String>()
        ));
        if signals::is_interrupted() {
            return Err(Problem::interrupted());
        }
        self.print_command_line("^C");
        if status.code() == Some(i32::from(EXIT_INTERRUPTED)) {
            Ok(answer)
        } else {
            Err(failed(format!("it exited with {status}")))
        }
    }

    /// Demands a fact after a step.
    ///
    /// # Errors
    /// It is not so.
    pub(crate) fn ensure_fact(&self, step: &str, fact: &str, is_so: bool) -> Result<()> {
        if is_so {
            Ok(())
        } else {
            Err(Problem::new(format!(
                "the demo failed after `{step}`: it is not so that {fact}"
            )))
        }
    }

    /// comfy in the dotfiles folder, with an environment of the demo's own.
    #[expect(
        clippy::disallowed_methods,
        reason = "comfy itself, with a cleared environment"
    )]
    fn comfy_command(&self, args: &[&str], color: &str) -> Command {
        let place = self.place;
        let mut command = Command::new(self.comfy);
        command
            .arg("-C")
            .arg(place.dotfiles())
            .args(["--color", color])
            .args(args);
        command
            .current_dir(place.dotfiles())
            .env_clear()
            .env("HOME", place.home())
            .env("COMFY_MIRRORS", place.mirrors())
            .env("COMFY_ADVISORY_SERVICE", "off");
        command
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((*name, env::var(name)?))),
            )
            .stdin(Stdio::null());
        command
    }

    /// Exit code (128 + N after signal N), and stdout and stderr in the order in which they came.
    fn run_captured(&self, args: &[&str]) -> Result<(i32, String)> {
        let (mut reader, writer) = std::io::pipe().context("make a pipe")?;
        let again = writer.try_clone().context("make a pipe")?;
        let mut command = self.comfy_command(
            args,
            if paint("", PaintStyle::Bold).is_empty() {
                "never"
            } else {
                "always"
            },
        );
        command.stdout(writer).stderr(again);
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", self.comfy.display()))?;
        // It holds the pipe's other end, which would never close.
        drop(command);
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes);
        let status = child.wait().context("wait for it")?;
        read.context("read what it said")?;
        Ok((
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            String::from_utf8_lossy(&bytes).into_owned(),
        ))
    }
}

/// The part of `text` that a reader of the demo needs.
fn visible_part(text: &str, show: OutputDetail, warned: &mut bool) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.trim_end().lines() {
        let warning = plain(line).starts_with("isolation = \"none\"");
        // Once is enough, and an outcome begins below it.
        if !warning || (show != OutputDetail::Outcome && !std::mem::replace(warned, true)) {
            lines.push(line);
        }
    }
    let plan = lines.iter().position(|l| {
        ["Plan:", "No changes"]
            .iter()
            .any(|s| plain(l).starts_with(s))
    });
    match (show, plan) {
        (OutputDetail::All, _) | (_, None) => lines.join("\n"),
        (OutputDetail::Outcome, Some(at)) => lines[at..].join("\n"),
        (OutputDetail::Plan, Some(at)) => {
            // Below a plan without changes are notes alone.
            let is_empty = plain(lines[at]).starts_with("No changes");
            let behind = if is_empty { 0 } else { lines.len() - at - 1 };
            shorten_plan(&lines[..=at], behind).join("\n")
        }
    }
}

/// A plan in which what is new and no node is one line; `behind` more lines came after it.
fn shorten_plan(lines: &[&str], behind: usize) -> Vec<String> {
    let (mut out, mut left, mut blank) = (Vec::new(), behind, false);
    let (mut brief, mut was_brief) = (false, false);
    for line in lines {
        let bare = plain(line);
        let head = bare.strip_prefix("  # ");
        if let Some(head) = head {
            brief = head.ends_with("will be created") && !head.starts_with("node.");
        } else if bare.is_empty() {
            blank = true;
            continue;
        } else if !bare.starts_with("    ") {
            brief = false;
        }
        if bare.starts_with("Note:") || (brief && head.is_none()) {
            left += 1;
            continue;
        }
        if std::mem::take(&mut blank) && !out.is_empty() && !(brief && was_brief) {
            out.push(String::new());
        }
        was_brief = brief;
        out.push((*line).to_string());
    }
    if left > 0 {
        out.push(paint(
            &format!(
                "({} of this plan left out here)",
                crate::text::count_of(left, "line")
            ),
            PaintStyle::Dim,
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "isolation = \"none\": nothing is protected.
comfy will perform the following actions:
  \x1b[32m+\x1b[0m create

  \x1b[1m# dir.state will be created\x1b[0m
    + /p/state = \"me:me 0751\"
    + /p/user  = \"me:me 0751\"

  \x1b[1m# share.models will be created\x1b[0m
    + path = \"/s\"

  # node.demo-hello will be created
    + commit = \"a89cd88\"

Drift: this machine has changed since the last apply.

  # share.input will be updated
    ~ mode = \"0755\" -> \"2775\"
Note: network.egress: not enforced by this version

Plan: 3 to add, 1 to change, 0 to destroy.
Apply complete! 3 added, 1 changed, 0 destroyed.
";

    #[test]
    fn a_plan_is_shortened_to_what_the_story_needs() {
        insta::assert_snapshot!(plain(&visible_part(PLAN, OutputDetail::Plan, &mut false)), @r#"
        isolation = "none": nothing is protected.
        comfy will perform the following actions:
          + create

          # dir.state will be created
          # share.models will be created

          # node.demo-hello will be created
            + commit = "a89cd88"

        Drift: this machine has changed since the last apply.

          # share.input will be updated
            ~ mode = "0755" -> "2775"

        Plan: 3 to add, 1 to change, 0 to destroy.
        (5 lines of this plan left out here)
        "#);
    }

    #[test]
    fn an_apply_shows_its_outcome_and_the_warning_comes_once() {
        let mut warned = false;
        insta::assert_snapshot!(visible_part(PLAN, OutputDetail::Outcome, &mut warned), @r"
        Plan: 3 to add, 1 to change, 0 to destroy.
        Apply complete! 3 added, 1 changed, 0 destroyed.
        ");
        assert!(visible_part(PLAN, OutputDetail::All, &mut warned).starts_with("isolation"));
        assert!(visible_part(PLAN, OutputDetail::All, &mut warned).starts_with("comfy will"));
    }
}
