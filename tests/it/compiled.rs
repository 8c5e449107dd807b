//! Bytecode is comfy's own: a source or a tree that it cannot be made for is installed without.

use std::fs;
use std::path::{Path, PathBuf};

use crate::packages::{base, ok, picture};
use crate::python::{World, python};

fn tag() -> String {
    python().1.replace('.', "")
}

/// Paths of a node in the generation that runs.
fn node(w: &World, name: &str) -> PathBuf {
    base(w).join("current/ComfyUI/custom_nodes").canonicalize().unwrap().join(name)
}

#[test]
fn a_tree_where_bytecode_has_no_place_is_installed_without() {
    let Some(w) = World::new("", &[("alpha", ""), ("beta", ""), ("gamma", "")]) else { return };
    let deep = format!("x = 1{}\n", "+1".repeat(200_000));
    let pyc = format!("lib/__pycache__/util.cpython-{}.pyc/x", tag());
    let long = format!("{}.py", "l".repeat(252));
    let code = ("__init__.py", b"NODE_CLASS_MAPPINGS = {}\n".as_slice(), 0o100_644);
    w.commit_files("alpha", &[code, ("__pycache__", b"data.d", 0o120_000), ("data.d/k", b"x", 0o100_644)]);
    w.commit_files("beta", &[code, ("__pycache__", b"a file", 0o100_644), ("lib/b.py", b"B = 1\n", 0o100_644)]);
    let deep = ("deep.py", deep.as_bytes(), 0o100_644);
    w.commit_files("gamma", &[code, deep, ("lib/util.py", b"U = 1\n", 0o100_644), (&pyc, b"d", 0o100_644), (&long, b"L = 1\n", 0o100_644)]);
    ok(&w, "lock");
    ok(&w, "apply --yes");
    assert!(ok(&w, "verify --full").contains("parts as comfy.lock pins them"));
    assert!(ok(&w, "plan --exit-code").contains("No changes."));
    let all = ["alpha", "beta", "gamma"].map(|n| picture(&node(&w, n)).into_keys().map(|p| format!("{n}/{p}\n")).collect::<String>()).concat();
    let all = all.replace(&format!("-{}", tag()), "-TAG").replace(&"l".repeat(252), "LONG");
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
