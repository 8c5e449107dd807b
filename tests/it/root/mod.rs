//! Real users, real groups, real files. Each test is named after what it cures.

mod added;
mod adopted;
mod alone;
mod asked;
mod attack;
mod confined;
mod daily;
mod doctor;
mod elsewhere;
mod gateway;
mod health;
mod history;
mod mac;
mod mac_walls;
mod machine;
mod models;
mod network;
mod older;
mod queues;
mod service;

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use comfy::host::fs::open_dir;
use comfy::host::sealed::fingerprint;
use comfy::host::sealed::stat_cache::now_ns;
use machine::{BASE, MANIFEST, content, ok, online, private, said};

use crate::support::{borrowed, node};

/// What happens to the machine, and the address that `plan` must name.
const DRIFTS: &[(&str, &str, &str)] = &[
    ("a file edited", "echo x >> $N/__init__.py", "node.hello"),
    (
        "edited, size and mtime restored",
        "cp -p $N/__init__.py /tmp/keep.$$; sed -i 's/VERSION = 1/VERSION = 2/' $N/__init__.py; \
         touch -r /tmp/keep.$$ $N/__init__.py; rm /tmp/keep.$$",
        "node.hello",
    ),
    (
        "edited in place, size and mtime restored",
        "s=$(stat -c %y $N/__init__.py); printf 2 | dd of=$N/__init__.py bs=1 seek=10 conv=notrunc \
         status=none; touch -d \"$s\" $N/__init__.py",
        "node.hello",
    ),
    ("a file added", "echo x > $N/extra.py", "node.hello"),
    (
        "a compiled file added",
        "mkdir -p $N/__pycache__; echo x > $N/__pycache__/a.pyc",
        "node.hello",
    ),
    (
        "forged bytecode",
        "echo x > $(ls $N/__pycache__/*.pyc | head -1)",
        "node.hello",
    ),
    ("bytecode removed", "rm $N/__pycache__/*.pyc", "node.hello"),
    ("a file removed", "rm $N/web/js/a.js", "node.hello"),
    ("a file chmodded", "chmod 666 $N/__init__.py", "node.hello"),
    (
        "a script that lost its x",
        "chmod 644 $N/tools/run.sh",
        "node.hello",
    ),
    ("a file chowned", "chown alice $N/__init__.py", "node.hello"),
    ("a folder chowned", "chown alice $N/web", "node.hello"),
    ("a folder chmodded", "chmod 777 $N/web", "node.hello"),
    (
        "swapped for a link",
        "rm $N/__init__.py; ln -s /etc/passwd $N/__init__.py",
        "node.hello",
    ),
    (
        "a folder swapped for a link",
        "rm -r $N/web; ln -s /tmp $N/web",
        "node.hello",
    ),
    (
        "a link that leads elsewhere",
        "ln -sfn /etc/passwd $N/link.py",
        "node.hello",
    ),
    ("a pipe", "mkfifo $N/pipe", "node.hello"),
    ("an empty folder in a node", "mkdir $N/empty", "node.hello"),
    ("a node's folder removed", "rm -r $N", "node.hello"),
    ("ComfyUI edited", "echo x >> $C/main.py", "comfyui"),
    (
        "a file beside ComfyUI",
        "echo x > $C/../evil.yaml",
        "comfyui",
    ),
    (
        "an unmanaged extra_model_paths.yaml",
        "echo x > $C/extra_model_paths.yaml",
        "comfyui",
    ),
    (
        "tracked content beside a mount edited",
        "echo x >> $C/../tracked/models/configs/v1.yaml",
        "comfyui",
    ),
    (
        "a foreign folder in custom_nodes",
        "mkdir -p $C/custom_nodes/evil/__pycache__; echo x > $C/custom_nodes/evil/__init__.py",
        "comfyui",
    ),
    (
        "a foreign file in custom_nodes",
        "echo x > $C/custom_nodes/evil.py",
        "comfyui",
    ),
    (
        "an empty foreign folder",
        "mkdir $C/custom_nodes/void",
        "comfyui",
    ),
    (
        "the mount's link leads elsewhere",
        "ln -sfn /tmp $C/models",
        "comfyui",
    ),
    (
        "a .pth file in the virtual environment",
        "echo import os > $(echo $BASE/venv/*/lib/python3.*/site-packages)/evil.pth",
        "python",
    ),
    (
        "another interpreter",
        "ln -sfn /tmp/python $(echo $BASE/venv/*)/bin/python",
        "python",
    ),
    ("no virtual environment", "rm -r $BASE/venv/*", "python"),
    (
        "the generation's link to it",
        "ln -sfn /tmp $BASE/current/venv",
        "comfyui",
    ),
    (
        "`current` leads elsewhere",
        "ln -sfn /srv $BASE/current",
        "comfyui",
    ),
    ("`current` is gone", "rm $BASE/current", "comfyui"),
    ("a missing generation", "rm -r $BASE/gen/*", "comfyui"),
    (
        "a wrong group after mv",
        "echo x > /home/alice/m; chown alice:alice /home/alice/m; mv /home/alice/m \
         /home/alice/ai/models/m",
        "share.models",
    ),
    (
        "a model the group may write",
        "chmod g+w /home/alice/ai/models/m",
        "share.models",
    ),
    (
        "a folder without setgid",
        "mkdir /home/alice/ai/output/d; chown alice:comfyshared /home/alice/ai/output/d; chmod g-s \
         /home/alice/ai/output/d",
        "share.output",
    ),
    (
        "a share's mode",
        "chmod 755 /home/alice/ai/output",
        "share.output",
    ),
    (
        "a share's owner",
        "chown root /home/alice/ai/input",
        "share.input",
    ),
    ("a share gone", "rm -r /home/alice/ai/input", "share.input"),
    (
        "a member removed",
        "gpasswd -d comfyui_sandbox comfyshared",
        "member.comfyui_sandbox",
    ),
    (
        "the owner no member",
        "gpasswd -d alice comfyshared",
        "member.alice",
    ),
    (
        "the sandbox user deleted",
        "userdel comfyui_sandbox",
        "user.comfyui_sandbox",
    ),
    (
        "the sandbox user with a shell",
        "usermod -s /bin/bash comfyui_sandbox",
        "user.comfyui_sandbox",
    ),
    (
        "the view leads elsewhere",
        "ln -sfn /tmp /home/alice/ComfyUI",
        "link.view",
    ),
    ("the view gone", "rm /home/alice/ComfyUI", "link.view"),
    (
        "a mount below user leads elsewhere",
        "ln -sfn /tmp $BASE/state/user/default/workflows",
        "link.workflows",
    ),
    (
        "the state of somebody else",
        "chmod 777 $BASE/state/user",
        "dir.state",
    ),
    (
        "a state folder swapped for a link",
        "rm -r $BASE/state/cache; ln -s /etc $BASE/state/cache",
        "dir.state",
    ),
    (
        "the owner's folder moved onto a state folder",
        "mkdir /home/alice/ai/output/proj; chown alice:comfyshared /home/alice/ai/output/proj; \
         chmod 2775 /home/alice/ai/output/proj; mv $BASE/state/temp $BASE/state/temp.away; mv \
         /home/alice/ai/output/proj $BASE/state/temp",
        "dir.state",
    ),
    (
        "an open home",
        "chmod 755 /home/comfyui_sandbox",
        "dir.home",
    ),
    (
        "the instance's folder",
        "chmod 777 $BASE/gen",
        "dir.instance",
    ),
    (
        "the instance's folder chowned",
        "chown alice $BASE/gen",
        "dir.instance",
    ),
    (
        "the records' mode",
        "chmod 755 /var/lib/comfy/comfyui_sandbox",
        "dir.records",
    ),
    (
        "the way through a home closed",
        "setfacl -b /home/alice 2>/dev/null || chmod g-x /home/alice",
        "traverse./home/alice",
    ),
];

#[test]
fn every_drift_is_found_and_healed() {
    private("every_drift_is_found_and_healed", |m| {
        m.sh("chmod 700 /home/alice");
        m.ready();
        let uid = m.sh("id -u comfyui_sandbox");
        for (what, script, address) in DRIFTS {
            m.sh(&format!(
                "BASE={BASE}; C=$BASE/current/ComfyUI; N=$C/custom_nodes/hello; {script}"
            ));
            let seen = m.differing();
            assert!(
                seen.iter().any(|a| a == address),
                "{what}: plan says {seen:?}, not {address}"
            );
            assert_eq!(
                m.alice(&["plan", "--exit-code"]).status.code(),
                Some(2),
                "{what}"
            );
            let out = m.root(&["apply", "--yes"]);
            assert!(out.status.success(), "{what}: {}", said(&out));
            let left = m.differing();
            assert!(left.is_empty(), "{what}: after apply still {left:?}");
        }
        m.clean();
        assert_eq!(
            m.sh("id -u comfyui_sandbox"),
            uid,
            "the sandbox user came back as somebody else"
        );
        let quarantine = m.sh(&format!("ls {BASE}/quarantine"));
        for name in ["evil", "evil.py", "void"] {
            assert!(
                quarantine.lines().any(|l| l.ends_with(&format!("-{name}"))),
                "{name} was thrown away: {quarantine}"
            );
        }
        eprintln!("{} drifts found and healed", DRIFTS.len());
    });
}

/// A disk that lies: the same stat, other bytes. Only reading them tells.
#[test]
fn verify_names_each_file_and_full_believes_nothing() {
    private("verify_names_each_file_and_full_believes_nothing", |m| {
        m.ready();
        let ids = |out: &std::process::Output| crate::support::without_ids(&said(out), &[7, 16]);
        let python = m.sh("readlink -f /usr/bin/python3");
        let version =
            m.sh("/usr/bin/python3 -c 'import platform; print(platform.python_version())'");
        let whole = m.alice(&["verify"]);
        assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));
        insta::assert_snapshot!(ids(&whole).replace(&python, "PYTHON").replace(&version, "VERSION"), @"
        ok      python      0 packages, VERSION (PYTHON)
        ok      comfyui     commit COMMIT
        ok      node.hello  commit COMMIT
        ok      node.world  commit COMMIT
        4 of 4 parts match comfy.lock.
        ");
        m.sh(&format!(
            "cd {BASE}/current/ComfyUI; echo x >> main.py; rm \
            custom_nodes/hello/web/js/a.js; touch custom_nodes/hello/extra.py"
        ));
        let off = m.alice(&["verify"]);
        assert_eq!(off.status.code(), Some(2), "{}", said(&off));
        insta::assert_snapshot!(ids(&off).replace(&python, "PYTHON").replace(&version, "VERSION"), @"
        ok      python      0 packages, VERSION (PYTHON)
        differs comfyui     1 edited
                  edited: ComfyUI/main.py
        differs node.hello  1 added, 1 empty folder added, 1 missing
                  added: ComfyUI/custom_nodes/hello/extra.py
                  empty folder added: ComfyUI/custom_nodes/hello/web/js
                  missing: ComfyUI/custom_nodes/hello/web/js/a.js
        ok      node.world  commit COMMIT
        2 of 4 parts match comfy.lock.
        ");
        m.apply();
        m.sh(&format!(
            "echo 'VERSION = 7' > {BASE}/current/ComfyUI/custom_nodes/world/__init__.py; sleep 0.3"
        ));
        let known = std::path::Path::new("/var/lib/comfy/comfyui_sandbox/footprints.json");
        let mut footprints = fingerprint::load_fingerprints(known);
        let id = m.sh(&format!("basename $(readlink {BASE}/current)"));
        let damaged = open_dir(&std::path::Path::new(BASE).join("gen").join(&id)).unwrap();
        footprints.insert(
            id,
            fingerprint::take_fingerprint(damaged, now_ns() + 10_000_000_000).unwrap(),
        );
        std::fs::write(known, serde_json::to_vec(&footprints).unwrap()).unwrap();
        assert_eq!(
            m.alice(&["verify"]).status.code(),
            Some(0),
            "this one believes stat"
        );
        assert_eq!(m.alice(&["verify", "--full"]).status.code(), Some(2));
        m.sh(&format!("rm {}", known.display()));
        m.apply();
        assert_eq!(m.alice(&["verify", "--full"]).status.code(), Some(0));
        // Touched and not changed, as by a backup that links: read once more, and then known again.
        let before = std::fs::read(known).unwrap();
        m.sh(&format!(
            "ln {BASE}/current/ComfyUI/main.py /opt/x; rm /opt/x; sleep 0.2"
        ));
        m.clean();
        m.apply();
        assert_ne!(std::fs::read(known).unwrap(), before);
    });
}

/// uv knows interpreters by a list of archives; this one is made of the machine's own Python, whose
/// program is then closed to others.
#[test]
fn an_interpreter_is_fetched_where_the_system_has_none() {
    online("an_interpreter_is_fetched_where_the_system_has_none", |m| {
        let Some(uv) = crate::python::uv_or_skip() else {
            return;
        };
        m.sh(&format!("install -m 755 {} /opt/bin/uv", uv.display()));
        let version =
            m.sh("/usr/bin/python3 -c 'import platform; print(platform.python_version())'");
        let minor = version.rsplit_once('.').unwrap().0;
        m.sh(&format!(
            "mkdir -p /srv/py/python/bin /srv/py/python/lib; cd /srv/py; cp /usr/bin/python{minor} \
             python/bin/; ln -s python{minor} python/bin/python3
             cp -rL /usr/lib/python{minor} python/lib/; rm -rf python/lib/python{minor}/test; find \
             python -name __pycache__ -prune -exec rm -r {{}} +
             chmod -R a+rX python; tar czf cpython.tar.gz python; rm -r python; chmod 644 \
             cpython.tar.gz
             cp /usr/bin/python{minor} /srv/closed; chmod 700 /srv/closed; mount --bind \
             /srv/closed /usr/bin/python{minor}
             mkdir /home/alice/py; cp /srv/closed /home/alice/py/python{minor}; ln -s python{minor} \
             /home/alice/py/python3; chown -R alice: /home/alice/py"
        ));
        let sha256 = m.sh("sha256sum /srv/py/cpython.tar.gz | cut -d' ' -f1");
        std::fs::write(
            "/srv/py/list.json",
            crate::python::pythons(&version, "file:///srv/py/cpython.tar.gz", &sha256),
        )
        .unwrap();
        m.env = vec![
            ("COMFY_UV".into(), "/opt/bin/uv".into()),
            (
                "UV_PYTHON_DOWNLOADS_JSON_URL".into(),
                "/srv/py/list.json".into(),
            ),
        ];
        m.manifest(&MANIFEST.replace(
            "[python]",
            "[python]\nrequirements = [\"nothing ; python_version < '3'\"]",
        ));
        // uv needs some Python to resolve, and `lock` fetches none: here it is one of alice's own, which
        // the sandbox user cannot reach.
        let lock = [
            "PATH=/home/alice/py:/usr/local/bin:/usr/bin:/bin",
            "/opt/bin/comfy",
            "-C",
            "/home/alice/dot",
            "lock",
        ];
        ok(&m.as_user("alice", "env", &lock).output().unwrap());
        assert!(
            m.sh("cat /home/alice/dot/comfy.lock")
                .contains(&format!("managed = \"{version}\""))
        );
        let planned = m.alice(&["plan"]);
        assert!(
            said(&planned).contains(&format!("CPython {version}")),
            "{}",
            said(&planned)
        );
        m.apply();
        m.clean();
        let at = format!("{BASE}/python/{version}");
        // It is what runs, it is root's alone, and its library has its bytecode.
        assert_eq!(
            m.sh(&format!("readlink {BASE}/current/venv/bin/python")),
            format!("{at}/bin/python{minor}")
        );
        assert_eq!(
            m.sh(&format!(
                "find {at} ! -user root -o ! -group root -o ! -type l -perm /022 | wc -l"
            )),
            "0"
        );
        m.sh(&format!(
            "test -s {at}/lib/python{minor}/__pycache__/os.cpython-{}.pyc",
            minor.replace('.', "")
        ));
        let out = m
            .as_user(
                "comfyui_sandbox",
                &format!("{BASE}/current/venv/bin/python"),
                &["-c", "import sys, ssl; print(sys.prefix)"],
            )
            .output()
            .unwrap();
        assert!(said(&out).trim().ends_with("/venv"), "{}", said(&out));
        // The uv that did it is a copy of root's, and is looked at each time: another one in its
        // place does not run, nor one in the store.
        let kept = format!("{BASE}/tools/uv");
        assert_eq!(
            m.sh(&format!(
                "cmp {kept} /opt/bin/uv; find {BASE}/tools ! -user root -o -perm /022 | wc -l"
            )),
            "0"
        );
        let forged = "#!/bin/sh\necho \"$@\" >> /srv/forged\nexec /opt/bin/uv \"$@\"\n";
        m.sh(&format!(
            "mkdir -p {BASE}/.staging/store/uv-0.13.9; touch /srv/forged; chmod 666 /srv/forged"
        ));
        for at in [&kept, &format!("{BASE}/.staging/store/uv-0.13.9/uv")] {
            std::fs::write(at, forged).unwrap();
            m.sh(&format!("chmod 755 {at}"));
        }
        // Damaged, it is made again from the archive that was kept.
        m.sh(&format!(
            "echo 'import evil' >> {at}/lib/python{minor}/os.py; rm /srv/py/cpython.tar.gz"
        ));
        assert_eq!(m.differing(), ["python"]);
        ok(&m.root(&["apply", "--yes", "--offline"]));
        m.clean();
        assert_eq!(
            m.sh(&format!("cat /srv/forged; cmp {kept} /opt/bin/uv")),
            ""
        );
        // One that was found and is another one now is told.
        m.sh(&format!(
            "echo >> /opt/bin/uv; echo 'import evil' >> {at}/lib/python{minor}/os.py"
        ));
        let out = m.root(&["apply", "--yes", "--offline"]);
        ok(&out);
        assert!(
            said(&out).contains("warning: uv has changed: COMFY_UV=/opt/bin/uv with sha256 "),
            "{}",
            said(&out)
        );
        m.sh(&format!("cmp {kept} /opt/bin/uv"));
        // With the system's own open again, that one serves, and `gc` takes the other away.
        m.sh(&format!("umount /usr/bin/python{minor}"));
        m.apply();
        m.clean();
        ok(&m.root(&["gc", "--keep", "0", "--yes"]));
        assert_eq!(
            m.sh(&format!(
                "ls {BASE}/python; ls /var/lib/comfy/comfyui_sandbox | grep -c python- || true"
            )),
            "0"
        );
    });
}

/// The wheels that were kept are enough, and everything that comes of them is root's.
#[test]
fn packages_come_back_from_the_wheels_that_were_kept() {
    private("packages_come_back_from_the_wheels_that_were_kept", |m| {
        let Some(uv) = crate::python::uv_or_skip() else {
            return;
        };
        m.sh(&format!("install -m 755 {} /opt/bin/uv", uv.display()));
        let index = crate::index::Index::start(crate::index::Pages::Json);
        index.wheels(&[("numpy", "1.26.4")]);
        // Its script is written anew.
        let tool = crate::index::release("tool", "1.0")
            .file("tool-1.0.dist-info/top_level.txt", b"tool\n")
            .file("tool/__init__.py", b"");
        index.add(
            tool.file("tool-1.0.data/scripts/run-tool", b"#!python\nprint(1)\n")
                .wheel(),
        );
        m.env = vec![
            ("COMFY_UV".into(), "/opt/bin/uv".into()),
            ("UV_DEFAULT_INDEX".into(), index.url()),
        ];
        // One that nobody but the owner can read.
        let own = crate::index::release("own", "1.0").wheel();
        m.sh("install -d -m 700 -o alice /home/alice/wheels");
        std::fs::write(format!("/home/alice/wheels/{}", own.name), &own.bytes).unwrap();
        m.sh("chown alice /home/alice/wheels/*; chmod 600 /home/alice/wheels/*");
        // A node of the owner's, too.
        m.sh("install -d -m 700 -o alice /home/alice/src /home/alice/src/mine");
        m.sh("echo 'NODE_CLASS_MAPPINGS = {}' > /home/alice/src/mine/__init__.py");
        m.sh("chown alice /home/alice/src/mine/*; chmod 600 /home/alice/src/mine/*");
        let manifest = MANIFEST.replace(
            "[python]",
            "[python]\nrequirements = [\"numpy\", \"tool\", \"own\"]\nwheels = \"~/wheels\"",
        );
        m.manifest(&format!(
            "{manifest}\n[nodes.mine]\npath = \"~/src/mine\"\n"
        ));
        m.ready();
        let mine = format!("{BASE}/current/ComfyUI/custom_nodes/mine");
        assert_eq!(
            m.sh(&format!("stat -c '%U %a' {mine} {mine}/__init__.py")),
            "root 755\nroot 644"
        );
        assert_eq!(
            m.sh("ls -A /opt/comfy/comfyui_sandbox/.staging | grep wheels || true"),
            ""
        );
        drop(index);
        m.sh(&format!("rm -r {BASE}/venv/*"));
        assert_eq!(m.differing(), ["python"]);
        ok(&m.root(&["apply", "--yes", "--offline"]));
        m.clean();
        assert_eq!(m.sh(&format!("find {BASE}/venv ! -user root | wc -l")), "0");
        assert_eq!(
            m.sh(&format!("head -1 {BASE}/current/venv/bin/run-tool")),
            format!("#!{BASE}/current/venv/bin/python")
        );
    });
}

/// The embedded miniature ComfyUI, launched for real: as whom, with what, and that nothing of it is
/// left.
#[test]
fn comfyui_runs_as_the_sandbox_user_and_ends_whole() {
    use std::io::{BufRead, BufReader, Read};
    private("comfyui_runs_as_the_sandbox_user_and_ends_whole", |m| {
        let files: Vec<(&str, &[u8], u32)> = comfy::demo::files::COMFYUI
            .iter()
            .map(|f| (f.path, f.text.as_bytes(), 0o100_644))
            .collect();
        m.core.commit(&files);
        // Says as whom it runs, and what it can do; loads nothing that somebody planted.
        let probe = "import os, sys\nprint('NODE', os.getuid(), sorted(os.getgroups()), \
            oct(os.umask(0o002)), 'evil' in sys.modules, sys.flags.dont_write_bytecode, __cached__ \
            is not None and os.path.exists(__cached__))\n\
            try:\n    os.setuid(0)\n    print('ROOT')\nexcept OSError:\n    print('no way to \
            root')\n\
            open(os.path.join(os.environ['TMPDIR'], 'x'), \
            'w').close()\nopen('web/extensions/x.js', 'w').close()\n\
            import subprocess\nsubprocess.Popen(['sleep', '1000'])\nNODE_CLASS_MAPPINGS = {}\n";
        let mut hello = node(1);
        hello[0].1 = probe.into();
        m.hello.commit(&borrowed(&hello));
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        m.manifest(&MANIFEST.replace(
            "view = ",
            &format!("port = {port}\nwritable = [\"web/extensions\"]\nview = "),
        ));
        m.ready();
        let explained = m.root(&["run", "--explain", "--", "--cpu"]);
        assert!(
            said(&explained).starts_with("as comfyui_sandbox, in /opt/comfy/comfyui_sandbox/gen/"),
            "{}",
            said(&explained)
        );
        for line in [
            "network      private, loopback only; ComfyUI listens there, at 127.0.0.1:",
            "way out      none",
            "belongs to the gateway (uid 58203), which admits uid ",
            "share output: ComfyUI reads and writes",
            "the Python interpreter and its library",
        ] {
            assert!(
                said(&explained).contains(line),
                "{line}\n{}",
                said(&explained)
            );
        }
        for (args, why) in [
            (
                ["--", "--lis", "0.0.0.0"],
                "sets --listen, which comfy sets itself",
            ),
            (["--", "--cpuu", "x"], "did you mean `--cpu`?"),
        ] {
            let out = m.root(&[&["run"], &args[..]].concat());
            assert!(
                out.status.code() == Some(1) && said(&out).contains(why),
                "{}",
                said(&out)
            );
        }
        // Planted where the sandbox can write: none of it may run.
        m.sh(
            "v=$(ls -d /opt/comfy/comfyui_sandbox/venv/*/lib/python3.* | sed 's,.*/,,'); \
             h=/home/comfyui_sandbox; d=$h/.local/lib/$v/site-packages; mkdir -p $d
             echo 'import evil' > $d/evil.pth; echo 'print(\"PLANTED\")' > $d/evil.py; cp \
             $d/evil.py $d/usercustomize.py; cp $d/evil.py $h/sitecustomize.py
             chown -R comfyui_sandbox $h/.local",
        );
        let mut child = m.root_command(&["run"]);
        child
            .env("PYTHONPATH", "/home/comfyui_sandbox")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .process_group(0);
        let mut child = child.spawn().unwrap();
        let mut told = String::new();
        for line in BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map(Result::unwrap)
        {
            told += &format!("{line}\n");
            if line.contains("is ready") {
                break;
            }
        }
        assert!(told.contains("2 of 2 nodes loaded"), "{told}");
        let ask = format!(
            "import urllib.request; \
             print(urllib.request.urlopen('http://127.0.0.1:{port}/system_stats').read().decode())"
        );
        let reply = said(
            &m.as_user("alice", "/usr/bin/python3", &["-c", &ask])
                .output()
                .unwrap(),
        );
        assert!(reply.contains("comfyui_version"), "{reply}");
        let second = m.root(&["run"]);
        assert!(
            said(&second).contains("ComfyUI is already running since"),
            "{}",
            said(&second)
        );
        // Not those that nobody has waited for: the first process of this machine is the test.
        let all = "for p in /proc/[0-9]*; do if [ \"$(stat -c %U $p 2>/dev/null)\" = \
            comfyui_sandbox ] && ! grep -q '^State:.*Z' $p/status; then echo x; fi; done | wc -l";
        assert_eq!(m.sh(all), "2", "ComfyUI and what the node started");
        m.sh(&format!("kill -INT {}", child.id()));
        let mut log = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130), "{told}{log}");
        assert_eq!(m.sh(all), "0", "something of the launch is still there");
        let (uid, groups) = (
            m.sh("id -u comfyui_sandbox"),
            m.sh("id -G comfyui_sandbox | tr ' ' '\\n' | sort -n | paste -sd, | sed 's/,/, /g'"),
        );
        assert!(
            log.contains(&format!("NODE {uid} [{groups}] 0o2 False 1 True")),
            "{log}"
        );
        assert!(
            log.contains("no way to root") && !log.contains("ROOT") && !log.contains("PLANTED"),
            "{log}"
        );
        m.clean();
        // Somebody else's port is told with who has it.
        let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let out = m.root(&["run"]);
        assert!(
            out.status.code() == Some(1)
                && said(&out).contains(&format!("port {port} is in use by ")),
            "{}",
            said(&out)
        );
        drop(taken);
        // What is not as it was applied is not started.
        m.sh(&format!(
            "echo x >> {BASE}/current/ComfyUI/custom_nodes/world/__init__.py"
        ));
        let out = m.root(&["run"]);
        assert!(
            out.status.code() == Some(1)
                && said(&out).contains("the code has changed since it was applied"),
            "{}",
            said(&out)
        );
    });
}

#[test]
fn the_sandbox_cannot_change_what_it_runs() {
    private("the_sandbox_cannot_change_what_it_runs", |m| {
        m.ready();
        m.sh(
            "umask 022; install -o alice -g comfyshared -m 644 /dev/null \
            /home/alice/ai/models/a.safetensors; mkdir -p /home/alice/ai/models/loras",
        );
        m.apply();
        // As the sandbox user: write, rename, unlink and add beside every path of the installation
        // and the folders above it.
        let script = r#"
import os, sys
tried = 0; done = []
def attempt(what, f):
    global tried
    tried += 1
    try: f()
    except OSError: return
    done.append(what)
roots = [BASE, "/var/lib/comfy", "/home/alice/ai/models"]
paths = ["/", "/opt", "/opt/comfy", "/var/lib", "/home", "/home/alice", "/home/alice/dot/comfy.toml", "/home/alice/dot/comfy.lock"]
for r in roots:
    for d, ds, fs in os.walk(r):
        if d.startswith(BASE + "/state/"): ds[:] = []; continue
        paths += [d] + [os.path.join(d, n) for n in ds + fs]
for p in paths:
    if p == BASE + "/state" or p.startswith(BASE + "/state/"): continue
    attempt("write " + p, lambda: os.close(os.open(p, os.O_WRONLY)))
    attempt("append " + p, lambda: os.close(os.open(p, os.O_WRONLY | os.O_APPEND)))
    attempt("rename " + p, lambda: os.rename(p, p + ".moved"))
    attempt("unlink " + p, lambda: os.unlink(p) if not os.path.isdir(p) or os.path.islink(p) else os.rmdir(p))
    attempt("chmod " + p, lambda: os.chmod(p, 0o777, follow_symlinks=os.path.islink(p) is False) if not os.path.islink(p) else (_ for _ in ()).throw(OSError()))
    attempt("add beside " + p, lambda: os.close(os.open(os.path.join(os.path.dirname(p) or "/", "planted"), os.O_CREAT | os.O_WRONLY | os.O_EXCL)))
    if os.path.isdir(p) and not os.path.islink(p): attempt("add in " + p, lambda: os.mkdir(os.path.join(p, "planted")))
attempt("add in state's parent", lambda: os.mkdir(BASE + "/planted"))
attempt("rename state", lambda: os.rename(BASE + "/state", BASE + "/state.old"))
print(tried); print("\n".join(done))
"#
        .replace("BASE", &format!("\"{BASE}\""));
        let out = m
            .as_user(
                "comfyui_sandbox",
                "/usr/bin/python3",
                &["-I", "-c", &script],
            )
            .output()
            .unwrap();
        ok(&out);
        let text = said(&out);
        let (tried, done) = text.split_once('\n').unwrap();
        eprintln!("{tried} attempts of the sandbox user, none succeeded");
        assert!(tried.parse::<usize>().unwrap() > 200, "{tried}");
        assert_eq!(done.trim(), "", "the sandbox user could");
        m.clean();
    });
}

#[test]
fn both_sides_can_use_what_is_shared() {
    private("both_sides_can_use_what_is_shared", |m| {
        for mode in ["700", "750", "755"] {
            m.sh(&format!("chmod {mode} /home/alice"));
            m.ready();
            m.sh(
                "install -o alice -g alice -m 640 /dev/null /home/alice/ai/models/x; echo secret \
                > /home/alice/secret; chmod 600 /home/alice/secret",
            );
            m.apply();
            let run = |user: &str, script: &str| {
                m.as_user(user, "/bin/bash", &["-ec", script])
                    .output()
                    .unwrap()
            };
            // The sandbox reads models through ComfyUI's own paths, writes outputs, and sees
            // nothing else of the home.
            ok(&run(
                "comfyui_sandbox",
                &format!(
                    "umask 002; cat {BASE}/current/ComfyUI/models/x; mkdir -p \
                     {BASE}/current/ComfyUI/output/day; echo p > \
                     {BASE}/current/ComfyUI/output/day/p.png; echo w > \
                     {BASE}/current/ComfyUI/user/default/workflows/w.json; ls \
                     ~/ComfyUI/custom_nodes"
                ),
            ));
            for denied in [
                "ls /home/alice",
                "cat /home/alice/secret",
                "echo x > /home/alice/ai/models/x",
                "rm /home/alice/ai/models/x",
                "touch /home/alice/ai/models/new",
            ] {
                assert!(
                    !run("comfyui_sandbox", denied).status.success()
                        || (mode == "755" && denied == "ls /home/alice"),
                    "mode {mode}: {denied}"
                );
            }
            assert_eq!(
                m.sh("stat -c %G /home/alice/ai/output/day/p.png"),
                "comfyshared"
            );
            // The owner, in a fresh login, deletes what the sandbox wrote.
            ok(&run(
                "alice",
                "cat ~/ai/output/day/p.png; rm ~/ai/output/day/p.png; rmdir ~/ai/output/day; rm \
                 ~/ai/workflows/w.json; cat ~/ComfyUI/main.py",
            ));
            assert_eq!(
                m.sh("stat -c %a /home/alice").as_str(),
                if mode == "700" { "710" } else { mode },
                "only a search entry, never o+x"
            );
            ok(&m.root(&["destroy", "--yes"]));
            assert_eq!(
                m.sh("stat -c %a /home/alice"),
                mode,
                "destroy takes the entry back"
            );
            assert_eq!(m.sh("cat /home/alice/ai/models/x | wc -c"), "0");
            assert_eq!(
                m.sh(
                    "ls -d /opt/comfy/comfyui_sandbox /var/lib/comfy /home/comfyui_sandbox \
                2>/dev/null || true"
                ),
                ""
            );
            assert_eq!(
                m.sh(
                    "getent passwd comfyui_sandbox || true; getent group comfyshared \
                comfyui_sandbox || true"
                ),
                ""
            );
        }
    });
}

#[test]
fn a_revert_brings_the_old_tree_back_without_its_upstream() {
    private(
        "a_revert_brings_the_old_tree_back_without_its_upstream",
        |m| {
            m.ready();
            let lock = std::fs::read(m.dot.join("comfy.lock")).unwrap();
            let folder = std::path::PathBuf::from(format!("{BASE}/current/ComfyUI/custom_nodes"));
            let old = content(&folder);
            m.sh(&format!(
                "echo kept > {BASE}/state/nodes/hello/data/settings.json"
            ));
            m.hello.commit(&borrowed(&node(2)));
            let out = m.alice(&["update", "hello"]);
            assert!(said(&out).contains("(1 commit)"), "{}", said(&out));
            m.apply();
            m.clean();
            let new = content(&folder);
            assert_ne!(old, new);
            assert_eq!(
                m.sh(&format!("cat {BASE}/state/nodes/hello/data/settings.json")),
                "kept"
            );
            // Unchanged files are one inode in both generations.
            assert_eq!(
                m.sh(&format!("stat -c %h {BASE}/current/ComfyUI/main.py")),
                "2"
            );
            m.sh("mv /srv/upstream /srv/gone");
            std::fs::write(m.dot.join("comfy.lock"), &lock).unwrap();
            m.apply();
            m.clean();
            assert_eq!(content(&folder), old, "byte for byte");
            // Even with no generation left, from the store alone.
            m.sh(&format!("rm -r {BASE}/gen/* {BASE}/current"));
            ok(&m.root(&["apply", "--yes", "--offline"]));
            m.clean();
            assert_eq!(content(&folder), old, "byte for byte, from the store");
        },
    );
}

#[test]
fn a_failing_prepare_changes_nothing() {
    private("a_failing_prepare_changes_nothing", |m| {
        m.lock();
        // At first: no upstream, then no space.
        let before = m.picture();
        m.sh("mv /srv/upstream/up/world.git /srv/world.git");
        let out = m.root(&["apply", "--yes"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(
            said(&out).contains("node.world: https://github.com/up/world"),
            "{}",
            said(&out)
        );
        assert_eq!(m.picture(), before, "a failed fetch left something");
        m.sh("mv /srv/world.git /srv/upstream/up/world.git");
        m.apply();
        m.clean();
        // Then with something there: a disk too small for the new tree.
        let mut big = node(3);
        let noise: Vec<u8> = (0..24_000_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        big.push(("big.bin".into(), noise, 0o100_644));
        m.world.commit(&borrowed(&big));
        ok(&m.alice(&["update", "world"]));
        m.sh(&format!(
            "mkdir /srv/keep; cp -a /opt/comfy/. /srv/keep/; mount -t tmpfs -o \
            size=24m,mode=755 tmpfs /opt/comfy; cp -a /srv/keep/. /opt/comfy/; test -d {BASE}"
        ));
        let before = m.picture();
        let differing = m.differing();
        let out = m.root(&["apply", "--yes"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(
            said(&out).contains("node.world")
                && (said(&out).contains("space") || said(&out).contains("are needed")),
            "{}",
            said(&out)
        );
        let strip = |s: &str| {
            s.lines()
                .filter(|l| !l.contains("/.staging/store"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(
            strip(&m.picture()),
            strip(&before),
            "a full disk left something"
        );
        assert_eq!(m.differing(), differing);
        m.sh("mount -o remount,size=512m /opt/comfy");
        m.apply();
        m.clean();
        m.sh("umount /opt/comfy");
    });
}

#[test]
fn a_second_apply_is_told_who_holds_the_first() {
    private("a_second_apply_is_told_who_holds_the_first", |m| {
        m.lock();
        m.sh("mkdir -p /run/comfy; chmod 700 /run/comfy");
        let hold = |name: &str| {
            let lock = std::fs::File::create(format!("/run/comfy/{name}")).unwrap();
            std::io::Write::write_all(&mut &lock, b"pid 4711 (alice, apply) since 12:00:00\n")
                .unwrap();
            nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive)
                .map_err(|_| ())
                .unwrap()
        };
        let held = hold("comfyui_sandbox.lock");
        let out = m.root(&["apply", "--yes"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(
            said(&out).contains("another apply is running: pid 4711 (alice, apply) since 12:00:00"),
            "{}",
            said(&out)
        );
        drop(held);
        // Another instance's commit is waited for.
        let held = hold("apply.lock");
        let mut waits = m
            .root_command(&["apply", "--yes"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = String::new();
        let mut stderr = std::io::BufReader::new(waits.stderr.take().unwrap());
        while !told.contains(
            "waiting for another instance's apply: pid 4711 (alice, apply) since 12:00:00",
        ) {
            assert!(
                std::io::BufRead::read_line(&mut stderr, &mut told).unwrap() > 0,
                "{told}"
            );
        }
        assert!(!std::path::Path::new(BASE).exists());
        drop(held);
        std::io::Read::read_to_string(&mut stderr, &mut told).unwrap();
        assert!(waits.wait().unwrap().success(), "{told}");
        m.clean();
    });
}

#[test]
fn what_was_there_before_is_adopted_and_stays() {
    private("what_was_there_before_is_adopted_and_stays", |m| {
        m.sh(
            "groupadd -g 777 comfyshared; useradd -m -s /bin/bash comfyui_sandbox; usermod -aG \
            comfyshared mallory; usermod -aG sudo comfyui_sandbox 2>/dev/null || usermod -aG root \
            comfyui_sandbox",
        );
        m.lock();
        let out = m.alice(&["plan"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(
            said(&out).contains("user comfyui_sandbox is in group"),
            "{}",
            said(&out)
        );
        m.sh("gpasswd -d comfyui_sandbox sudo 2>/dev/null || gpasswd -d comfyui_sandbox root");
        // It has a shell, and the group another member: both are somebody's until comfy.toml and
        // the administrator say otherwise.
        let text = said(&m.alice(&["plan"]));
        assert!(
            text.contains(
                "group.comfyshared has other members: mallory: they could read and write the shared folders"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "user.comfyui_sandbox has the shell /bin/bash: it is somebody else's account"
            ) && text.contains("`adopt = true` in [host]"),
            "{text}"
        );
        m.sh("gpasswd -d mallory comfyshared; gpasswd -M alice,comfyui_sandbox comfyshared");
        m.manifest(&MANIFEST.replace("[comfyui]", "[host]\nadopt = true\n\n[comfyui]"));
        let text = said(&m.alice(&["plan"]));
        assert!(
            text.contains("adopted because host.adopt = true: it existed before comfy"),
            "{text}"
        );
        m.manifest(&MANIFEST.replace("[comfyui]", "[host]\ngid = 504\n\n[comfyui]"));
        let out = m.alice(&["plan"]);
        assert!(
            said(&out).contains(
                "comfy.toml:4:1: group.comfyshared has gid 777, but host.gid asks for 504"
            ),
            "{}",
            said(&out)
        );
        m.manifest(
            &MANIFEST
                .replace("[comfyui]", "[hosts.HOST.host]\nadopt = true\n\n[comfyui]")
                .replace("HOST", &m.sh("hostname -s")),
        );
        m.apply();
        m.clean();
        // What was taken over once stays so, without the word and whoever joins the group.
        m.manifest(MANIFEST);
        m.clean();
        m.sh("usermod -aG comfyshared mallory");
        m.clean();
        assert!(said(&m.alice(&["plan"])).contains("group comfyshared has other members: mallory"));
        let out = m.root(&["destroy", "--yes"]);
        ok(&out);
        // What the sandbox user kept lies where the plan said.
        let told = said(&out);
        let backup = told
            .lines()
            .find_map(|l| l.split_once("the quarantine are in ")?.1.strip_suffix('.'))
            .expect(&told);
        assert!(m.sh(&format!("ls {backup}")).contains("user"));
        assert_eq!(m.sh("getent group comfyshared | cut -d: -f3"), "777");
        m.sh("id comfyui_sandbox; test -e /home/comfyui_sandbox/.bashrc");
        assert_eq!(m.sh("stat -c '%G %a' /home/alice/ai/output"), "alice 755");
    });
}

#[test]
fn a_saved_plan_is_done_exactly_or_not_at_all() {
    private("a_saved_plan_is_done_exactly_or_not_at_all", |m| {
        m.ready();
        m.sh(&format!(
            "rm /home/alice/ComfyUI; chmod 755 {BASE}/state/temp"
        ));
        ok(&m.alice(&["plan", "--out", "/home/alice/p.plan"]));
        m.sh("chmod 755 /home/alice/ai/output");
        let out = m.root(&["apply", "/home/alice/p.plan"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(
            said(&out).contains("the saved plan is stale"),
            "{}",
            said(&out)
        );
        assert!(!std::path::Path::new("/home/alice/ComfyUI").exists());
        m.sh("chmod 2775 /home/alice/ai/output");
        ok(&m.root(&["apply", "/home/alice/p.plan"]));
        m.clean();
    });
}

#[test]
fn what_leaves_the_manifest_leaves_the_machine() {
    private("what_leaves_the_manifest_leaves_the_machine", |m| {
        m.sh("chmod 700 /home/alice");
        m.ready();
        let cut = MANIFEST
            .split("[shares.input]")
            .next()
            .unwrap()
            .replace("view = \"~/ComfyUI\"\n", "")
            .replace("~/ai/models", "/srv/models")
            .replace("[nodes.world]", "[nodes.world]\nenabled = false");
        m.manifest(&cut);
        let out = m.alice(&["plan"]);
        let text = said(&out);
        for gone in [
            "# node.world will be destroyed",
            "# share.input will be destroyed",
            "# share.output will be destroyed",
            "# traverse./home/alice will be destroyed",
            "# link./home/alice/ComfyUI will be destroyed",
        ] {
            assert!(text.contains(gone), "{gone}\n{text}");
        }
        m.apply();
        m.clean();
        assert_eq!(
            m.sh("stat -c '%G %a' /home/alice/ai/output; stat -c %a /home/alice"),
            "alice 755\n700"
        );
        assert!(!std::path::Path::new("/home/alice/ComfyUI").exists());
        assert!(
            !std::path::Path::new(&format!("{BASE}/current/ComfyUI/custom_nodes/world")).exists()
        );
        ok(&m.root(&["gc", "--keep", "0", "--yes"]));
        assert_eq!(m.sh(&format!("ls {BASE}/gen | wc -l")), "1");
        m.clean();
    });
}

#[test]
fn a_selection_does_what_it_says_and_no_more() {
    private("a_selection_does_what_it_says_and_no_more", |m| {
        m.ready();
        m.sh(&format!(
            "chmod 755 /home/alice/ai/output; echo x >> {BASE}/current/ComfyUI/main.py; \
            rm /home/alice/ComfyUI"
        ));
        ok(&m.root(&["apply", "--yes", "--only", "shares"]));
        assert_eq!(
            m.differing(),
            ["link.view", "comfyui"],
            "the code and the view were not selected"
        );
        // A share that moves takes its link in the generation along.
        m.manifest(&MANIFEST.replace("~/ai/models", "/srv/models"));
        ok(&m.root(&["apply", "--yes", "--only", "shares"]));
        assert_eq!(
            m.sh(&format!("readlink {BASE}/current/ComfyUI/models")),
            "/srv/models"
        );
        m.apply();
        m.clean();
        // An adopted account keeps its home; a link of the owner's must not lead a share onto a
        // home.
        m.manifest(MANIFEST);
        m.sh(
            "rm -r /home/alice/ai/input; ln -s /home/alice /home/alice/ai/input; chown -h alice \
            /home/alice/ai/input",
        );
        let out = m.alice(&["plan"]);
        assert!(
            said(&out).contains("share.input is blocked") && said(&out).contains("which overlaps"),
            "{}",
            said(&out)
        );
        assert_eq!(m.root(&["apply", "--yes"]).status.code(), Some(1));
    });
}

/// Small and good enough to choose moments; the seed is printed so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// Both sides at once, by their process group; and waits until the root side is gone too.
fn kill(child: &mut std::process::Child) {
    let group = nix::unistd::Pid::from_raw(child.id() as i32);
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    let _ = child.wait();
    while nix::sys::signal::killpg(group, None).is_ok() {
        let _ = nix::sys::wait::waitpid(
            nix::unistd::Pid::from_raw(-1),
            Some(nix::sys::wait::WaitPidFlag::WNOHANG),
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// After a kill: nothing half behind `current`, a truthful plan, and one apply that ends clean.
fn recovers(m: &machine::Machine, when: &str) {
    if let Ok(target) = std::fs::read_link(format!("{BASE}/current")) {
        let at = std::path::Path::new(BASE).join(&target);
        let whole = [
            "generation.json",
            "ComfyUI/main.py",
            "ComfyUI/custom_nodes/hello/__init__.py",
            "ComfyUI/custom_nodes/world/data/settings.json",
        ];
        for file in whole {
            assert!(
                at.join(file).exists(),
                "{when}: {} lacks {file}",
                at.display()
            );
        }
    }
    let out = m.alice(&["plan", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{when}: {}", said(&out));
    let out = m.root(&["apply", "--yes"]);
    assert!(out.status.success(), "{when}: {}", said(&out));
    assert!(m.differing().is_empty(), "{when}: {:?}", m.differing());
    assert_eq!(
        m.sh(&format!(
            "ls -A {BASE}/.staging | grep -v -e '^store$' -e '^gitconfig$' || true; ls \
            -A {BASE}/trash"
        )),
        "",
        "{when}: staging or trash was left full"
    );
}

#[test]
fn a_full_disk_does_not_keep_an_instance_from_being_removed() {
    private(
        "a_full_disk_does_not_keep_an_instance_from_being_removed",
        |m| {
            m.ready();
            m.sh(
                "mkdir /srv/small; mount -t tmpfs -o size=64m,mode=755 tmpfs /srv/small; mkdir \
                /srv/small/opt /srv/small/lib
              cp -a /opt/comfy/. /srv/small/opt/; cp -a /var/lib/comfy/. /srv/small/lib/
              mount --bind /srv/small/opt /opt/comfy; mount --bind /srv/small/lib /var/lib/comfy
              dd if=/dev/zero of=/srv/small/full bs=4k 2>/dev/null || true; if echo x > \
                /var/lib/comfy/x; then exit 1; fi; rm -f /var/lib/comfy/x",
            );
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            assert_eq!(
                m.sh("ls -A /opt/comfy /var/lib/comfy; getent passwd comfyui_sandbox || true"),
                "/opt/comfy:\n\n/var/lib/comfy:"
            );
            m.sh("umount /opt/comfy /var/lib/comfy /srv/small");
        },
    );
}

#[cfg(feature = "faults")]
#[test]
fn killed_before_every_step_it_still_ends_clean() {
    private("killed_before_every_step_it_still_ends_clean", |m| {
        m.lock();
        let mut killed = 0;
        for step in 0.. {
            let out = m
                .root_command(&["apply", "--yes"])
                .env("COMFY_FAULT", format!("kill:{step}"))
                .output()
                .unwrap();
            let ended = out.status.success();
            recovers(m, &format!("killed before step {step}"));
            ok(&m.root(&["destroy", "--purge", "--yes"]));
            if ended {
                break;
            }
            killed += 1;
        }
        eprintln!("killed before each of {killed} steps");
        assert!(killed > 20, "{killed}");
    });
}

#[test]
fn killed_at_any_moment_it_still_ends_clean() {
    private("killed_at_any_moment_it_still_ends_clean", |m| {
        let mut dice = Dice(
            std::env::var("COMFY_TEST_SEED")
                .ok()
                .and_then(|s| s.parse().ok())
                .unwrap_or(20_261_122),
        );
        m.lock();
        let started = Instant::now();
        m.apply();
        let whole = started.elapsed().as_micros() as u64;
        let (mut in_prepare, mut in_commit) = (0, 0);
        for round in 0..50u32 {
            ok(&m.root(&["destroy", "--purge", "--yes"]));
            let mut child = m
                .root_command(&["apply", "--yes"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            let committing =
                || std::path::Path::new("/var/lib/comfy/comfyui_sandbox/audit.log").exists();
            let wait = if round % 2 == 0 {
                Duration::from_micros(dice.below(whole))
            } else {
                let limit = Instant::now();
                while !committing() && limit.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Duration::from_micros(dice.below(40_000))
            };
            std::thread::sleep(wait);
            kill(&mut child);
            if committing() {
                in_commit += 1
            } else {
                in_prepare += 1
            }
            recovers(m, &format!("round {round}"));
        }
        eprintln!("50 kills: {in_prepare} before the commit, {in_commit} in it or after");
        assert!(in_commit >= 25);
    });
}

#[test]
fn random_machines_become_what_is_asked() {
    private("random_machines_become_what_is_asked", |m| {
        m.lock();
        let mut dice = Dice(7);
        for round in 0..20 {
            // A random wish.
            let mut text = MANIFEST.to_string();
            if dice.below(2) == 0 {
                text = text.replace("[nodes.world]", "[nodes.world]\nenabled = false");
            }
            if dice.below(2) == 0 {
                text = text.replace("view = \"~/ComfyUI\"\n", "");
            }
            if dice.below(3) == 0 {
                text = text.replace("~/ai/", "/srv/ai/");
            }
            if dice.below(3) == 0 {
                text = text.replace(
                    "mount = \"input\"\naccess = \"write\"",
                    "mount = \"input\"\naccess = \"add\"",
                );
            }
            if dice.below(3) == 0 {
                text = text.split("[shares.workflows]").next().unwrap().to_string();
            }
            m.manifest(&text);
            // A random machine: some of the drifts, on whatever is there.
            for _ in 0..dice.below(5) {
                let (_, script, _) = DRIFTS[dice.below(DRIFTS.len() as u64) as usize];
                m.sh(&format!(
                    "BASE={BASE}; C=$BASE/current/ComfyUI; N=$C/custom_nodes/hello; [ -L \
                     $BASE/current ] || exit 0; ( {script} ) 2>/dev/null || true"
                ));
            }
            // A failure at some moment, then again.
            let mut child = m
                .root_command(&["apply", "--yes"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_micros(dice.below(200_000)));
            kill(&mut child);
            let out = m.root(&["apply", "--yes"]);
            assert!(
                out.status.success(),
                "round {round}: {}\n{text}",
                said(&out)
            );
            assert!(
                m.differing().is_empty(),
                "round {round}: {:?}\n{text}",
                m.differing()
            );
        }
    });
}
