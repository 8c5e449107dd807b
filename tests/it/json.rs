//! `--json`: one object from every command, whatever becomes of it.

use std::process::Command;

use serde_json::Value;

use crate::python::World;
use crate::support::command;

/// What stdout holds, if that is one object of the documented form.
fn envelope(c: &mut Command) -> Value {
    let out = c.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    // The events of an apply come before it.
    let streams = text.starts_with("{\"") && text.lines().count() > 1;
    let last = if streams {
        text.lines().last().unwrap()
    } else {
        &text
    };
    let json: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{c:?}: {e}\n{text}"));
    assert_eq!(json["format_version"], 1, "{text}");
    let failed = out.status.code() != Some(0) && out.status.code() != Some(2);
    assert_eq!(json["ok"], !failed, "{c:?}\n{text}");
    assert_eq!(json["error"].is_null(), !failed, "{text}");
    json
}

/// Every command that `help --json` lists, with that of its own subcommand.
fn all_commands(of: &Value, before: &[String]) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    for c in of["commands"].as_array().unwrap() {
        let mut path = before.to_vec();
        path.push(c["name"].as_str().unwrap().to_string());
        let inner = all_commands(c, &path);
        if inner.is_empty() {
            out.push(path);
        } else {
            out.extend(inner);
        }
    }
    out
}

#[test]
fn every_command_prints_one_object() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    let run = |args: &[&str]| {
        let mut c = command(&root);
        c.current_dir(&root)
            .args(args)
            .stdin(std::process::Stdio::null());
        c
    };
    let help = envelope(&mut run(&["help", "--json"]));
    let all = all_commands(&help["data"], &[]);
    assert!(all.len() > 35, "{all:?}");
    let prints_others = ["shell", "exec", "logs", "man", "completions"];
    let mut codes = Vec::new();
    for path in all {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        // What needs a real folder of its own, or runs for long, is elsewhere.
        if words == ["init"] || words == ["demo"] || words == ["help"] {
            continue;
        }
        let json = envelope(&mut run(&[&words[..], &["--json"]].concat()));
        let code = json["error"]["code"].as_str().unwrap_or("-").to_string();
        if prints_others.contains(&words[0]) {
            assert_eq!(code, "usage", "{words:?}");
        }
        codes.push(format!("{}: {code}", words.join(" ")));
    }
    insta::assert_snapshot!(codes.join("\n"), @"
    add node: usage
    add model: usage
    add share: usage
    remove node: usage
    remove model: usage
    remove share: usage
    set: usage
    check: no_manifest
    list: no_manifest
    lock: no_manifest
    update: no_manifest
    outdated: no_manifest
    history: no_manifest
    rollback: no_manifest
    bisect: no_manifest
    model: usage
    plan: no_manifest
    apply: no_manifest
    run: no_manifest
    start: no_manifest
    stop: no_manifest
    restart: no_manifest
    status: no_manifest
    logs: usage
    open: no_manifest
    shell: usage
    exec: usage
    doctor: no_manifest
    verify: no_manifest
    scan: no_manifest
    audit: no_manifest
    review: usage
    accept: usage
    gc: no_manifest
    dedupe: no_manifest
    cache prune: -
    export sbom: no_manifest
    export manager-snapshot: no_manifest
    export requirements: no_manifest
    export pylock: no_manifest
    export schema: -
    destroy: no_manifest
    completions: usage
    man: usage
    ");
}

#[test]
fn what_a_program_reads_while_it_proposes_a_change() {
    let Some(w) = World::new("lib", &[]) else {
        return;
    };
    w.index.wheels(&[("lib", "1.0")]);
    let run = |args: &[&str]| {
        let mut out = Value::Null;
        w.with("--json", |c| {
            c.args(args);
            out = envelope(c);
        });
        out
    };
    let no_lock = run(&["plan"]);
    assert_eq!(no_lock["error"]["code"], "no_lock");
    let wrong = run(&["set", "comfyui.prt", "1"]);
    assert_eq!(wrong["error"]["code"], "manifest_invalid");
    assert_eq!(wrong["error"]["places"][0]["file"], "comfy.toml");
    let locked = run(&["lock"]);
    assert_eq!(locked["data"]["written"], true);
    assert_eq!(locked["data"]["moved"]["pins"][0]["name"], "comfyui");
    let stale = run(&["set", "python.requirements", "[\"lib\"]"]);
    assert_eq!(stale["data"]["changed"], true);
    let checked = run(&["check"]);
    assert_eq!(
        (&checked["ok"], &checked["data"]["problems"]),
        (&false.into(), &1.into())
    );
    assert_eq!(run(&["plan"])["error"]["code"], "lock_mismatch");
    run(&["lock"]);
    let checked = run(&["check"]);
    insta::assert_snapshot!(checked["data"], @r#"{"hosts":[],"models":0,"nodes":0,"packages":1,"problems":0,"warnings":[]}"#);
    let plan = run(&["plan"]);
    assert_eq!(plan["data"]["format_version"], 2);
    assert_eq!(run(&["apply"])["error"]["code"], "not_approved");
    let applied = run(&["apply", "--yes", "--no-check"]);
    assert_eq!(
        applied["data"]["outcome"]["added"], plan["data"]["summary"]["add"],
        "{applied}"
    );
}
