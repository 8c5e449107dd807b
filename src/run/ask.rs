//! The owner's side of a launch: starts the launcher, asks, hears its first answer.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use super::{Answer, Request};
use crate::host::{elevate, signals};
use crate::problem::{Doing, Problem, Result};

/// A launcher that answered.
pub struct Asked {
    pub answer: Answer,
    pub reader: BufReader<ChildStdout>,
    /// Words go here; its end means to stop.
    pub stdin: ChildStdin,
    pub child: Child,
}

/// # Errors
/// What the launcher says, or that it ended without a word.
pub fn ask(request: &Request, isolated: bool) -> Result<Asked> {
    let mut child = elevate::side(elevate::LAUNCH_SIDE, isolated)?;
    let mut stdin = child.stdin.take().ok_or_else(|| Problem::new("no pipe to the launcher"))?;
    let stdout = child.stdout.take().ok_or_else(|| Problem::new("no pipe from the launcher"))?;
    let text = serde_json::to_string(request).doing(|| "ask the launcher".into())?;
    // One that ended already says why on its own.
    let _ = writeln!(stdin, "{text}");
    let mut reader = BufReader::new(stdout);
    match first(&mut reader) {
        Some(Answer::Failed(p)) => {
            let _ = child.wait();
            Err(p)
        }
        Some(answer) => Ok(Asked { answer, reader, stdin, child }),
        None => {
            drop(stdin);
            let status = child.wait().doing(|| "wait for the launcher".into())?;
            Err(if signals::interrupted() {
                Problem::interrupted()
            } else {
                Problem::new(format!("the launcher ended without an answer ({status})")).hint("did sudo refuse?")
            })
        }
    }
}

/// The launcher's first line; what sudo or PAM print before it is not ours.
fn first(reader: &mut impl BufRead) -> Option<Answer> {
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 0 {
        if let Ok(a) = serde_json::from_str(&line) {
            return Some(a);
        }
        line.clear();
    }
    None
}
