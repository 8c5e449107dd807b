//! Loads everything once, as ComfyUI does when it starts, and compares the result with that of the
//! previous generation.

use std::io::Write;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::client::{LaunchHandle, send_request};
use super::import_log::{ImportLog, more_hints_line};
use super::{KILL, LaunchAnswer, LaunchRequest, STOP, log_writer};
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::problem::{Context, Problem, Result};
use crate::records::import_results::ImportHealth;
use crate::records::running;

/// The time limit, so that a node that hangs during import does not block the check.
const PATIENCE: Duration = Duration::from_secs(600);
/// The number of ComfyUI's last lines that are shown if it did not finish.
const TAIL: usize = 15;

/// Has the launcher load everything, and reads its output.
///
/// # Errors
/// Nothing could be started, or the user interrupted it.
pub(crate) fn load_all(request: &LaunchRequest, side: RoleProcess) -> Result<ImportHealth> {
    let started = Instant::now();
    let LaunchHandle {
        answer,
        side:
            RoleProcess {
                mut child,
                mut stdin,
                reader,
            },
    } = send_request(request, side)?;
    let LaunchAnswer::Started {
        generation, nodes, ..
    } = answer
    else {
        return Err(Problem::new("the launcher did not start anything"));
    };
    let hear = log_writer::text_lines(reader);
    let (mut log, mut loaded, mut word) = (
        ImportLog::for_nodes(&nodes, request.log_context.clone()),
        false,
        None,
    );
    let mut health = ImportHealth {
        generation,
        nodes,
        when: running::rfc3339_now(),
        ..ImportHealth::default()
    };
    loop {
        match hear.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                health.hints.extend(log.push_line(&line));
                // A ComfyUI version without the flag for this starts to serve.
                if line.contains("Starting server") || line.contains("To see the GUI go to") {
                    loaded = true;
                    word = word.or(Some(STOP));
                }
                health.tail.push(line);
                if health.tail.len() > TAIL {
                    health.tail.remove(0);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if started.elapsed() > PATIENCE || signals::is_interrupted() {
            word = Some(KILL);
        }
        if let Some(w) = word.take() {
            let _ = writeln!(stdin, "{w}");
            if signals::is_interrupted() {
                break;
            }
        }
    }
    drop(stdin);
    let status = child.wait().context("wait for the launcher")?;
    if signals::is_interrupted() {
        return Err(Problem::interrupted());
    }
    health.seconds = started.elapsed().as_secs_f64();
    health.failed = log.failed_nodes(&health.nodes);
    health.partial = log.partial_nodes(&health.nodes);
    health.hints.extend(more_hints_line(log.suppressed_hints()));
    health.stopped = match status.code() {
        // A node that exits the program during import may do so with any code.
        Some(0) if !log.unmentioned_nodes(&health.nodes).is_empty() => {
            Some("it exited before it had loaded everything".into())
        }
        Some(0) => None,
        _ if loaded => None,
        _ if started.elapsed() > PATIENCE => Some(format!(
            "it had not finished after {} minutes",
            PATIENCE.as_secs() / 60
        )),
        code => Some(format!(
            "it exited with {}",
            code.and_then(|c| u8::try_from(c).ok())
                .map_or("a signal".into(), running::exit_text)
        )),
    };
    Ok(health)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(failed: &[&str], stopped: bool) -> ImportHealth {
        ImportHealth {
            nodes: ["a", "b"].map(String::from).into(),
            failed: failed
                .iter()
                .map(|n| (n.to_string(), "boom".to_string()))
                .collect(),
            stopped: stopped.then(|| "it ended with exit code 1".into()),
            ..ImportHealth::default()
        }
    }

    #[test]
    fn only_what_the_generation_before_could_do_counts_against_one() {
        let cases = [
            ("first, all well", health(&[], false), None),
            ("first, one fails", health(&["a"], false), None),
            (
                "the same one fails",
                health(&["a"], false),
                Some(health(&["a"], false)),
            ),
            (
                "another one fails too",
                health(&["a", "b"], false),
                Some(health(&["a"], false)),
            ),
            (
                "it does not start",
                health(&[], true),
                Some(health(&["a"], false)),
            ),
            (
                "it did not start before",
                health(&[], true),
                Some(health(&[], true)),
            ),
            (
                "it starts again",
                health(&["a"], false),
                Some(health(&[], true)),
            ),
        ];
        let told = cases.iter().map(|(what, now, before)| {
            let (first, rest) = now.summary_lines(before.as_ref());
            format!(
                "{what}: worse {:?}\n  {first}\n  {}",
                now.worse_than(before.as_ref()),
                rest.join("\n  ")
            )
        });
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r#"
        first, all well: worse []
          Everything was loaded once: 2 of 2 nodes loaded, in 0.0 s.
          
        first, one fails: worse ["node.a"]
          Everything was loaded once: 1 of 2 nodes loaded, in 0.0 s.
          node.a failed to import: boom
        the same one fails: worse []
          Everything was loaded once: 1 of 2 nodes loaded, in 0.0 s.
          node.a failed to import: boom (the previous generation did not load it either)
        another one fails too: worse ["node.b"]
          Everything was loaded once: 0 of 2 nodes loaded, in 0.0 s.
          node.a failed to import: boom (the previous generation did not load it either)
          node.b failed to import: boom (the previous generation loaded it)
        it does not start: worse ["comfyui"]
          
          ComfyUI could not load everything: it ended with exit code 1
        it did not start before: worse []
          
          ComfyUI could not load everything: it ended with exit code 1; the previous generation failed too
        it starts again: worse []
          Everything was loaded once: 1 of 2 nodes loaded, in 0.0 s.
          node.a failed to import: boom
        "#);
    }
}
