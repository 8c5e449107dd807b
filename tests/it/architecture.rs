//! The rooms of `src` and the arrows between them are those of the table in `src/lib.rs`, and what
//! calls itself pure touches no machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a pure room may not name: all that reads or changes a machine.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::os::unix::fs",
    "std::os::unix::net",
    "nix::",
    "libc::",
    "git2::",
    "ureq::",
    "tokio::",
    "hyper::",
    "crate::host",
];

struct Room {
    pure: bool,
    may_use: BTreeSet<String>,
}

/// The table of lib.rs: `//! pure     plan     problem text manifest …`.
fn table() -> BTreeMap<String, Room> {
    let text = std::fs::read_to_string(src().join("lib.rs")).unwrap();
    let rows = text.lines().filter_map(|l| l.strip_prefix("//! "));
    rows.filter_map(|row| {
        let mut words = row.split_whitespace();
        let pure = match words.next()? {
            "pure" => true,
            "effects" => false,
            _ => return None,
        };
        let name = words.next()?.to_string();
        Some((
            name,
            Room {
                pure,
                may_use: words.map(str::to_string).collect(),
            },
        ))
    })
    .collect()
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("demo/files") {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Each line of code of a file, without its comments and without the tests at its end.
fn lines(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap().to_string();
    let code = |l: &str| l.split("//").next().unwrap_or("").to_string();
    text.lines()
        .enumerate()
        .map(|(n, l)| (n + 1, code(l)))
        .collect()
}

/// The rooms that a line names: `crate::ROOM`, or `super::…::ROOM` out of the room itself.
fn rooms_named(line: &str, depth: usize, rooms: &BTreeMap<String, Room>) -> Vec<String> {
    let up = "super::".repeat(depth);
    let mut named = Vec::new();
    for start in ["crate::", up.as_str()] {
        for (at, _) in line.match_indices(start) {
            let rest = &line[at + start.len()..];
            let word: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let whole = at == 0 || !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == ':');
            if whole && rooms.contains_key(&word) {
                named.push(word);
            }
        }
    }
    named
}

#[test]
fn rooms_use_each_other_only_as_the_map_says() {
    let rooms = table();
    let mut paths = Vec::new();
    files(&src(), &mut paths);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let inside = path
            .strip_prefix(src())
            .unwrap()
            .to_str()
            .unwrap()
            .to_string();
        // `testing` and folders `tests` are compiled for tests alone.
        let of_tests = inside.starts_with("testing/") || inside.contains("/tests/");
        if matches!(&*inside, "lib.rs" | "main.rs") || of_tests {
            continue;
        }
        let parts: Vec<&str> = inside
            .trim_end_matches(".rs")
            .trim_end_matches("/mod")
            .split('/')
            .collect();
        let Some(room) = rooms.get(parts[0]) else {
            wrong.push(format!(
                "{inside}: `{}` is missing in the table of src/lib.rs",
                parts[0]
            ));
            continue;
        };
        seen.insert(parts[0].to_string());
        for (number, line) in lines(&path) {
            for other in rooms_named(&line, parts.len(), &rooms) {
                if other != parts[0] && !room.may_use.contains(&other) {
                    wrong.push(format!(
                        "{inside}:{number}: {} may not use {other}",
                        parts[0]
                    ));
                }
            }
            for effect in EFFECTS.iter().filter(|_| room.pure) {
                if line.contains(effect) {
                    wrong.push(format!("{inside}:{number}: {} is pure: {effect}", parts[0]));
                }
            }
        }
    }
    let gone: Vec<_> = rooms.keys().filter(|r| !seen.contains(*r)).collect();
    assert!(
        gone.is_empty(),
        "in the table of src/lib.rs, and not in src: {gone:?}"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_room_is_reached_from_itself() {
    let rooms = table();
    fn below<'a>(name: &str, rooms: &'a BTreeMap<String, Room>, seen: &mut BTreeSet<&'a str>) {
        for next in &rooms[name].may_use {
            if seen.insert(next) {
                below(next, rooms, seen);
            }
        }
    }
    for (name, room) in &rooms {
        let mut seen = BTreeSet::new();
        below(name, &rooms, &mut seen);
        assert!(!seen.contains(name.as_str()), "{name} is in a circle");
        let impure: Vec<_> = room.may_use.iter().filter(|o| !rooms[*o].pure).collect();
        assert!(
            !room.pure || impure.is_empty(),
            "{name} is pure and may use {impure:?}, which is not"
        );
    }
}

#[test]
fn a_planted_arrow_and_a_planted_effect_are_found() {
    let rooms = table();
    assert_eq!(rooms_named("use crate::host::fs;", 2, &rooms), ["host"]);
    assert_eq!(
        rooms_named("    super::super::host::fs::open()", 2, &rooms),
        ["host"]
    );
    assert!(rooms_named("use super::host_rules;", 2, &rooms).is_empty());
    assert!(EFFECTS.iter().any(|e| "use std::fs::File;".contains(e)));
}

/// Lines of `src` that hold one of `words`, but for those of `allowed` files.
fn lines_with(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    files(&src(), &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let inside = path.strip_prefix(src()).unwrap().display().to_string();
        if allowed.iter().any(|a| inside.starts_with(a)) {
            continue;
        }
        let hits = lines(&path)
            .into_iter()
            .filter(|(_, line)| words.iter().any(|w| line.contains(w)));
        found.extend(hits.map(|(number, line)| format!("{inside}:{number}: {}", line.trim())));
    }
    found
}

#[test]
fn one_function_tells_the_system_and_one_table_its_programs() {
    // The numbers of errno(3), and the build of uv that this machine can start, are the kernel's.
    let told = lines_with(
        &["cfg!(target_os", "consts::OS"],
        &[
            "host/machine/identity.rs",
            "problem.rs",
            "host/uv/program.rs",
        ],
    );
    assert!(told.is_empty(), "{}", told.join("\n"));
    let programs = lines_with(
        &["Command::new(\"/", "run_program(&[\"/"],
        &["host/tools.rs"],
    );
    assert!(programs.is_empty(), "{}", programs.join("\n"));
    // `env::test_switch` reads them only in a build with the feature `faults`.
    let switches = lines_with(&["COMFY_PLATFORM", "COMFY_TOOLS"], &["host/env.rs"]);
    let past = switches.iter().filter(|l| !l.contains("test_switch("));
    assert_eq!(past.collect::<Vec<_>>(), [""; 0]);
}
