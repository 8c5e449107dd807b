//! `policy.reviewer`: a program of the owner's choice that reads the diff, such as one that asks a
//! language model.

use serde::Deserialize;

use super::changes::{FileNotes, LineNote};
use crate::host::scan::reviewer;
use crate::problem::{Context, Result};
use crate::text::escape_text;

/// What the program prints: a list, or an object with one.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReviewerAnswer {
    List(Vec<ReviewerFinding>),
    Object { findings: Vec<ReviewerFinding> },
}

#[derive(Deserialize)]
struct ReviewerFinding {
    path: String,
    #[serde(default)]
    line: u32,
    severity: Option<String>,
    message: String,
}

/// Has the program read the diff; returns its remarks.
///
/// # Errors
/// It cannot be started or confined, fails, or prints no findings.
pub(crate) fn ask_reviewer(command: &[String], diff: &str) -> Result<FileNotes> {
    let printed = reviewer::run_reviewer(command, diff)?;
    let answer: ReviewerAnswer = serde_json::from_slice(&printed)
        .context("understand the findings that policy.reviewer printed")
        .map_err(|p| {
            p.with_hint(
                "it prints JSON: a list of objects with `path`, `line`, `severity` and `message`",
            )
        })?;
    let findings = match answer {
        ReviewerAnswer::List(findings) | ReviewerAnswer::Object { findings } => findings,
    };
    let mut notes = FileNotes::new();
    for f in findings {
        let severity = f.severity.as_deref().unwrap_or("note");
        let text = format!(
            "{}: {} (reviewer)",
            escape_text(severity),
            escape_text(&f.message)
        );
        let note = LineNote { line: f.line, text };
        notes.entry(f.path).or_default().push(note);
    }
    Ok(notes)
}
