//! Loads everything once, as ComfyUI does when it starts, and compares with what the generation
//! before could load.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::client::{LaunchHandle, send_request};
use super::import_log::{ImportLog, more_hints_line, nodes_summary};
use super::{KILL, LaunchAnswer, LaunchRequest, STOP, log_writer};
use crate::desired::{InstancePaths, PrimaryUser};
use crate::host::fs::edit;
use crate::host::roles::spawn::RoleProcess;
use crate::host::signals;
use crate::problem::{Context, Problem, Result};
use crate::records::running;

/// A node that hangs while it is imported holds up nothing for ever.
const PATIENCE: Duration = Duration::from_secs(600);
/// Lines of ComfyUI's that are shown where it did not get to the end.
const TAIL: usize = 15;

/// What came of loading one generation.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ImportHealth {
    pub generation: String,
    pub nodes: Vec<String>,
    /// Nodes that could not be imported, and why.
    pub failed: Vec<(String, String)>,
    /// Why ComfyUI itself did not get to the end.
    pub stopped: Option<String>,
    pub seconds: f64,
    /// RFC 3339.
    pub when: String,
    /// What would help.
    #[serde(skip)]
    pub hints: Vec<String>,
    /// The last that it said.
    #[serde(skip)]
    pub tail: Vec<String>,
}

impl ImportHealth {
    pub fn is_good(&self) -> bool {
        self.stopped.is_none() && self.failed.is_empty()
    }

    /// What this one cannot do, and `before` could: addresses. Without one before, everything that
    /// fails.
    pub fn worse_than(&self, before: Option<&ImportHealth>) -> Vec<String> {
        if self.stopped.is_some() {
            return if before.is_some_and(|b| b.stopped.is_some()) {
                Vec::new()
            } else {
                vec!["comfyui".into()]
            };
        }
        // Whatever this one cannot do, it does more than one that did not start.
        if before.is_some_and(|b| b.stopped.is_some()) {
            return Vec::new();
        }
        let failed = |n: &str| before.is_some_and(|b| b.failed.iter().any(|(f, _)| f == n));
        self.failed
            .iter()
            .filter(|(n, _)| !failed(n))
            .map(|(n, _)| format!("node.{n}"))
            .collect()
    }

    /// A line of what it is, then one for each thing that is not as it should be.
    pub fn summary_lines(&self, before: Option<&ImportHealth>) -> (String, Vec<String>) {
        if let Some(why) = &self.stopped {
            let tail = if self.worse_than(before).is_empty() {
                "; so did the generation before"
            } else {
                ""
            };
            return (
                String::new(),
                vec![format!("ComfyUI could not load everything: {why}{tail}")],
            );
        }
        let mut all = nodes_summary(&self.nodes, &self.failed).into_iter();
        let first = format!(
            "Everything was loaded once: {}, in {:.1} s.",
            all.next().unwrap_or_default(),
            self.seconds
        );
        let than = |line: String, node: &str| match before {
            Some(b) if b.failed.iter().any(|(f, _)| f == node) => {
                format!("{line} (as in the generation before)")
            }
            Some(b) if b.stopped.is_none() && b.nodes.iter().any(|n| n == node) => {
                format!("{line} (the generation before loaded it)")
            }
            _ => line,
        };
        (
            first,
            all.zip(&self.failed)
                .map(|(line, (node, _))| than(line, node))
                .collect(),
        )
    }
}

/// What is known of generations, in a file of the owner's.
#[derive(Debug, Default)]
pub struct ImportResults(BTreeMap<String, ImportHealth>);

impl ImportResults {
    pub fn read(paths: &InstancePaths) -> ImportResults {
        ImportResults(
            std::fs::read(paths.import_results())
                .ok()
                .and_then(|b| serde_json::from_slice(&b).ok())
                .unwrap_or_default(),
        )
    }

    pub fn health_of(&self, generation: &str) -> Option<&ImportHealth> {
        self.0.get(generation)
    }

    /// That generation was made live, and whether it can be loaded was not found out: Ctrl-C, a
    /// crash, no power.
    pub fn is_pending(paths: &InstancePaths, generation: &str) -> bool {
        std::fs::read_to_string(paths.pending_import_check()).is_ok_and(|g| g == generation)
    }

    /// Noted by whoever makes it live. It is a help and no promise, so a disk that is full is no
    /// error.
    pub fn mark_pending(paths: &InstancePaths, owner: &PrimaryUser, generation: &str) {
        let _ = edit::make_dir(&paths.logs_dir(), owner.uid, owner.gid, 0o700).and_then(|()| {
            edit::write_file(
                &paths.pending_import_check(),
                generation.as_bytes(),
                0o600,
                record_owner(owner),
            )
        });
    }

    /// It was found out, or tried in vain, or nobody wants to know.
    pub fn clear_pending(paths: &InstancePaths) {
        let _ = edit::remove_path(&paths.pending_import_check());
    }

    /// Notes it, and forgets generations that are gone.
    ///
    /// # Errors
    /// The disk.
    pub fn record_health(
        &mut self,
        health: &ImportHealth,
        paths: &InstancePaths,
        owner: &PrimaryUser,
    ) -> Result<()> {
        self.0.retain(|id, _| paths.generation_dir(id).exists());
        self.0.insert(health.generation.clone(), health.clone());
        let text = serde_json::to_vec(&self.0).context("write down what could be loaded")?;
        let path = paths.import_results();
        edit::write_file(&path, &text, 0o600, record_owner(owner))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Whose the book is, where root writes it.
fn record_owner(owner: &PrimaryUser) -> Option<(u32, u32)> {
    nix::unistd::geteuid()
        .is_root()
        .then_some((owner.uid, owner.gid))
}

/// Has the launcher load everything, and listens.
///
/// # Errors
/// Nothing could be started; interrupted.
pub fn load_all(request: &LaunchRequest, side: RoleProcess) -> Result<ImportHealth> {
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
        return Err(Problem::new("the launcher started nothing"));
    };
    let hear = log_writer::text_lines(reader);
    let (mut log, mut loaded, mut word) = (ImportLog::for_nodes(&nodes), false, None);
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
                // A ComfyUI without the switch for this goes on to serve.
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
    health.hints.extend(more_hints_line(log.suppressed_hints()));
    health.stopped = match status.code() {
        // A node that ends the program while it is imported may do so with any code.
        Some(0) if !log.unmentioned_nodes(&health.nodes).is_empty() => {
            Some("it ended before it had loaded everything".into())
        }
        Some(0) => None,
        _ if loaded => None,
        _ if started.elapsed() > PATIENCE => Some(format!(
            "it had not come to the end after {} minutes",
            PATIENCE.as_secs() / 60
        )),
        code => Some(format!(
            "it ended with {}",
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
          node.a failed to import: boom (as in the generation before)
        another one fails too: worse ["node.b"]
          Everything was loaded once: 0 of 2 nodes loaded, in 0.0 s.
          node.a failed to import: boom (as in the generation before)
          node.b failed to import: boom (the generation before loaded it)
        it does not start: worse ["comfyui"]
          
          ComfyUI could not load everything: it ended with exit code 1
        it did not start before: worse []
          
          ComfyUI could not load everything: it ended with exit code 1; so did the generation before
        it starts again: worse []
          Everything was loaded once: 1 of 2 nodes loaded, in 0.0 s.
          node.a failed to import: boom
        "#);
    }
}
