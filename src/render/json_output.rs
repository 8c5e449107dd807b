//! `--json`: a command prints one object, whatever becomes of it:
//! `{format_version, command, ok, data, error: {code, message, hints, places}}`.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use super::plan_json::json_text;
use crate::problem::{Problem, Result};

/// Raised if a field of the envelope changes its meaning; new fields do not raise it.
const FORMAT_VERSION: u32 = 1;

static OUTPUT: OnceLock<JsonOutput> = OnceLock::new();

struct JsonOutput {
    command: String,
    /// Its lines are events, and so the envelope is one line.
    streams: bool,
    data: Mutex<Option<Value>>,
    /// What a command without an object of its own would have printed.
    lines: Mutex<Vec<String>>,
    /// The real stdout: what ComfyUI prints to its own goes to stderr.
    out: Mutex<Option<std::fs::File>>,
}

/// Has this process print JSON. `streams`: events as they happen, a line each.
pub(crate) fn begin(command: &str, streams: bool) {
    let out = std::io::stdout().as_fd().try_clone_to_owned().ok();
    if out.is_some() {
        // Where it fails, both are the same.
        let _ = nix::unistd::dup2_stdout(std::io::stderr());
    }
    let _ = OUTPUT.set(JsonOutput {
        command: command.to_string(),
        streams,
        data: Mutex::default(),
        lines: Mutex::default(),
        out: Mutex::new(out.map(std::fs::File::from)),
    });
}

/// Returns whether events are printed.
pub(super) fn streams() -> bool {
    OUTPUT.get().is_some_and(|o| o.streams)
}

/// Sets what the command found or did; without effect where no JSON is printed.
pub(crate) fn set_data(value: &impl serde::Serialize) {
    if let Some(output) = OUTPUT.get()
        && let Ok(mut data) = output.data.lock()
    {
        *data = serde_json::to_value(value).ok();
    }
}

/// Keeps a line of text; false where it is to be printed.
pub(super) fn keep_line(text: &str) -> bool {
    let Some(output) = OUTPUT.get() else {
        return false;
    };
    if let Ok(mut lines) = output.lines.lock() {
        lines.extend(text.lines().map(str::to_string));
    }
    true
}

/// Prints an event, if the command streams.
pub(super) fn event(value: &Value) {
    if streams() {
        write_line(&compact(value));
    }
}

/// Prints the envelope.
pub(crate) fn finish(result: &Result<u8>) {
    let Some(output) = OUTPUT.get() else { return };
    let data = output.data.lock().ok().and_then(|mut d| d.take());
    let lines = output.lines.lock().map(|l| l.clone()).unwrap_or_default();
    let data = data.or_else(|| (!lines.is_empty()).then(|| json!({ "lines": lines })));
    let envelope = envelope(&output.command, data, result.as_ref().err());
    write_line(&if output.streams {
        compact(&envelope)
    } else {
        json_text(&envelope)
    });
}

/// The envelope of a command line that clap refuses.
pub(crate) fn usage_envelope(message: &str) -> String {
    let said = message
        .trim()
        .strip_prefix("error: ")
        .unwrap_or(message)
        .trim();
    let mut problem = Problem::new(said.lines().next().unwrap_or_default());
    problem.kind = crate::problem::ProblemKind::Usage;
    json_text(&envelope("", None, Some(&problem)))
}

fn envelope(command: &str, data: Option<Value>, error: Option<&Problem>) -> Value {
    json!({
        "format_version": FORMAT_VERSION,
        "command": command,
        "ok": error.is_none(),
        "data": data,
        "error": error.map(error_value),
    })
}

/// The first problem, and the others that were found with it.
fn error_value(p: &Problem) -> Value {
    let one = |p: &Problem| {
        let own_hint = p.io_hint().map(str::to_string);
        let hints: Vec<&String> = p.hints.iter().chain(&own_hint).collect();
        json!({ "code": p.kind.code(), "message": p.message, "hints": hints, "places": places(&p.message) })
    };
    let all = p.each_problem();
    let mut value = one(p);
    value["also"] = all[1..].iter().map(|p| one(p)).collect();
    value
}

/// The places in comfy.toml and comfy.lock that a message names: `comfy.toml:12:5`.
fn places(message: &str) -> Vec<Value> {
    let words = message.split(|c: char| c.is_whitespace() || c == ',');
    words
        .filter_map(|word| {
            let mut parts = word.trim_end_matches(':').rsplitn(3, ':');
            let (column, line, file) = (parts.next()?, parts.next()?, parts.next()?);
            let is_file = file.ends_with(".toml") || file.ends_with(".lock");
            let (line, column) = (line.parse::<u32>().ok()?, column.parse::<u32>().ok()?);
            is_file.then(|| json!({ "file": file, "line": line, "column": column }))
        })
        .collect()
}

fn compact(value: &Value) -> String {
    // The same escapes, on one line.
    let text = json_text(value);
    text.lines().map(str::trim_start).collect()
}

fn write_line(text: &str) {
    let Some(Ok(mut out)) = OUTPUT.get().map(|o| o.out.lock()) else {
        return;
    };
    let written = match out.as_mut() {
        Some(out) => out.write_all(format!("{text}\n").as_bytes()),
        None => writeln!(std::io::stdout().lock(), "{text}"),
    };
    if let Err(e) = written {
        super::note_stdout_error(e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_code_and_its_places() {
        let p = Problem::from_many(vec![
            Problem::new("comfy.toml:12:5: unknown key `prt`").with_hint("did you mean `port`?"),
            Problem::new("comfy.lock:3:1: x"),
        ]);
        insta::assert_snapshot!(json_text(&envelope("plan", None, Some(&p))), @r#"
        {
          "command": "plan",
          "data": null,
          "error": {
            "also": [
              {
                "code": "failed",
                "hints": [],
                "message": "comfy.lock:3:1: x",
                "places": [
                  {
                    "column": 1,
                    "file": "comfy.lock",
                    "line": 3
                  }
                ]
              }
            ],
            "code": "failed",
            "hints": [
              "did you mean `port`?"
            ],
            "message": "comfy.toml:12:5: unknown key `prt`",
            "places": [
              {
                "column": 5,
                "file": "comfy.toml",
                "line": 12
              }
            ]
          },
          "format_version": 1,
          "ok": false
        }
        "#);
        insta::assert_snapshot!(compact(&envelope("plan", Some(json!({ "a": "  b\n c" })), None)), @r#"{"command": "plan","data": {"a": "  b\n c"},"error": null,"format_version": 1,"ok": true}"#);
    }

    /// docs/agents.md lists every code.
    #[test]
    fn every_code_is_in_the_documentation() {
        let page = include_str!("../../docs/agents.md");
        for kind in crate::problem::ProblemKind::all() {
            assert!(
                page.contains(&format!("| `{}` |", kind.code())),
                "{}",
                kind.code()
            );
        }
    }
}
