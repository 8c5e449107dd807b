//! Bytecode is comfy's own: none of a wheel is installed, and a source or a tree that it cannot be
//! made for is installed without.

use std::fs;
use std::path::{Path, PathBuf};

use crate::index::release;
use crate::packages::{base, ok, picture, site, venv, world};
use crate::python::{World, python};

fn tag() -> String {
    python().1.replace('.', "")
}

/// Every path below some folders of the packages, with a mark where somebody else's bytecode is.
fn compiled(w: &World, folders: &[&str]) -> String {
    let all = picture(&site(&venv(w)));
    let own = all
        .iter()
        .filter(|(name, _)| folders.iter().any(|f| name.starts_with(f)));
    let lines = own
        .map(|(name, text)| {
            format!(
                "{name}{}\n",
                if text.contains("FORGED") {
                    " FORGED"
                } else {
                    ""
                }
            )
        })
        .collect::<String>();
    lines.replace(&format!("-{}", tag()), "-TAG")
}

#[test]
fn bytecode_of_a_wheel_is_left_out_whatever_was_there_before() {
    let pyc = |name: &str| format!("{name}-{}.pyc", tag());
    let at = |name: &str| pyc(&format!("{name}/__pycache__/__init__.cpython"));
    let optimized = format!("victim/__pycache__/__init__.cpython-{}.opt-1.pyc", tag());
    let evil = release("evil", "1.0")
        .file("evil/__init__.py", b"E = 1\n")
        .file(&at("evil"), b"FORGED")
        .file(&at("victim"), b"FORGED");
    let evil = evil
        .file(&optimized, b"FORGED")
        .file("evil/lib/__pycache__", b"FORGED")
        .file("evil/lib/x.py", b"X = 1\n");
    let evil = evil.file("evil/__pycache__/kernel.nbi", b"data");
    let long = format!("evil/{}.py", "l".repeat(252));
    let releases = [
        evil.file(&long, b"L = 1\n"),
        release("victim", "1.0").file("victim/__init__.py", b"V = 'honest'\n"),
    ];
    let Some(w) = world(&releases, "\"evil\", \"victim\"") else {
        return;
    };
    let told = |w: &World| compiled(w, &["evil/", "victim/"]).replace(&"l".repeat(252), "LONG");
    let whole = |w: &World| {
        assert!(ok(w, "verify --full").contains("2 of 2"));
        assert!(ok(w, "plan --exit-code").contains("No changes."));
    };
    ok(&w, "lock");
    ok(&w, "apply --yes");
    whole(&w);
    insta::assert_snapshot!(told(&w), @"
    evil/
    evil/__init__.py
    evil/__pycache__/
    evil/__pycache__/__init__.cpython-TAG.pyc
    evil/__pycache__/kernel.nbi
    evil/lib/
    evil/lib/__pycache__/
    evil/lib/__pycache__/x.cpython-TAG.pyc
    evil/lib/x.py
    evil/LONG.py
    victim/
    victim/__init__.py
    victim/__pycache__/
    victim/__pycache__/__init__.cpython-TAG.pyc
    ");
    let fresh = picture(&venv(&w));
    assert!(
        !fresh
            .iter()
            .any(|(name, text)| name.ends_with("/RECORD") && text.contains(".pyc")),
        "a RECORD tells of what is not there"
    );
    // From two environments: the one that runs, and the first, in which a file was damaged
    // meanwhile.
    let first = site(&venv(&w)).join("evil/__init__.py");
    w.edit("\"evil\", \"victim\"", "\"evil\"");
    ok(&w, "lock");
    ok(&w, "apply --yes");
    fs::write(&first, "E = 2\n").unwrap();
    w.edit("\"evil\"", "\"evil\", \"victim\"");
    ok(&w, "lock");
    ok(&w, "apply --yes");
    whole(&w);
    assert_eq!(
        picture(&venv(&w)),
        fresh,
        "it depends on what was there before"
    );
    w.edit("\"evil\", \"victim\"", "\"victim\"");
    ok(&w, "lock");
    ok(&w, "apply --yes");
    whole(&w);
    let said = ok(&w, "exec -- python -c print(__import__('victim').V)");
    assert!(said.contains("honest"), "{said}");
}

/// Paths of a node in the generation that runs.
fn node(w: &World, name: &str) -> PathBuf {
    base(w)
        .join("current/ComfyUI/custom_nodes")
        .canonicalize()
        .unwrap()
        .join(name)
}

#[test]
fn a_tree_where_bytecode_has_no_place_is_installed_without() {
    let Some(w) = World::new("", &[("alpha", ""), ("beta", ""), ("gamma", "")]) else {
        return;
    };
    let deep = format!("x = 1{}\n", "+1".repeat(200_000));
    let pyc = format!("lib/__pycache__/util.cpython-{}.pyc/x", tag());
    let long = format!("{}.py", "l".repeat(252));
    let code = (
        "__init__.py",
        b"NODE_CLASS_MAPPINGS = {}\n".as_slice(),
        0o100_644,
    );
    w.commit_files(
        "alpha",
        &[
            code,
            ("__pycache__", b"data.d", 0o120_000),
            ("data.d/k", b"x", 0o100_644),
        ],
    );
    w.commit_files(
        "beta",
        &[
            code,
            ("__pycache__", b"a file", 0o100_644),
            ("lib/b.py", b"B = 1\n", 0o100_644),
        ],
    );
    let deep = ("deep.py", deep.as_bytes(), 0o100_644);
    w.commit_files(
        "gamma",
        &[
            code,
            deep,
            ("lib/util.py", b"U = 1\n", 0o100_644),
            (&pyc, b"d", 0o100_644),
            (&long, b"L = 1\n", 0o100_644),
        ],
    );
    ok(&w, "lock");
    ok(&w, "apply --yes");
    assert!(ok(&w, "verify --full").contains("parts match comfy.lock"));
    assert!(ok(&w, "plan --exit-code").contains("No changes."));
    let all = ["alpha", "beta", "gamma"]
        .map(|n| {
            picture(&node(&w, n))
                .into_keys()
                .map(|p| format!("{n}/{p}\n"))
                .collect::<String>()
        })
        .concat();
    let all = all
        .replace(&format!("-{}", tag()), "-TAG")
        .replace(&"l".repeat(252), "LONG");
    insta::assert_snapshot!(all, @"
    alpha/__init__.py
    alpha/__pycache__
    alpha/data.d/
    alpha/data.d/k
    beta/__init__.py
    beta/__pycache__
    beta/lib/
    beta/lib/__pycache__/
    beta/lib/__pycache__/b.cpython-TAG.pyc
    beta/lib/b.py
    gamma/__init__.py
    gamma/__pycache__/
    gamma/__pycache__/__init__.cpython-TAG.pyc
    gamma/deep.py
    gamma/lib/
    gamma/lib/__pycache__/
    gamma/lib/__pycache__/util.cpython-TAG.pyc/
    gamma/lib/__pycache__/util.cpython-TAG.pyc/x
    gamma/lib/util.py
    gamma/LONG.py
    ");
    assert!(Path::new(&node(&w, "alpha").join("__pycache__")).is_symlink());
}
