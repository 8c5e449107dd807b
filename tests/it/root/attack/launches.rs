//! The second act: what one launch leaves, and what the next one, another user and the owner's own
//! links make of it.

use super::super::confined::{self, Run};
use super::super::machine::{BASE, attacked, ok, private, said};
use super::{old_state, refused};

/// Left by the first launch, wherever it can.
const PLANT: &str = r##"
import os, sys
HOME, TMP = os.environ.get("HOME", ""), os.environ["TMPDIR"]
def leave(path, text="EVIL = 1\n"):
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").write(text)
    except OSError: print("not left:", path, sys.exc_info()[1], flush=True)
CACHES = ["XDG_CACHE_HOME", "HF_HOME", "HF_MODULES_CACHE", "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
    "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "CUDA_CACHE_PATH", "CUPY_CACHE_DIR"]
for name in CACHES: leave(os.environ[name] + "/left.py")
leave(os.environ["TORCH_HOME"] + "/hub/evil_repo/hubconf.py")
leave(os.environ["HF_MODULES_CACHE"] + "/transformers_modules/evil/modeling.py")
leave(TMP + "/left.py")
leave(os.environ["HF_HUB_CACHE"] + "/models--kept/weights", "data")
leave(os.environ["TORCH_HOME"] + "/hub/checkpoints/kept.pth", "data")
leave(HOME + "/secret", "a node's own")
leave(HOME + "/c", "#!/bin/sh\nid\n")
for mode in (0o6755, 0o4755, 0o2755):
    try: os.chmod(HOME + "/c", mode)
    except OSError: pass
for folder, to in (("temp", "../../../../home/alice/Documents"), ("user", "../../../../srv/closed"), ("core", "../../../..")):
    try:
        os.rename("BASE/state/" + folder, "BASE/state/" + folder + ".away"); os.symlink(to, "BASE/state/" + folder)
    except OSError: pass
for name, to in (("link", "/home/alice/Documents"), ("passwd", "/etc/passwd")):
    try: os.symlink(to, "OUTPUT/" + name)
    except OSError: pass
print("PLANTED", flush=True)
"##;

/// Tried by the second one.
const TRY: &str = r##"
import os, sys
HOME, TMP = os.environ.get("HOME", ""), os.environ["TMPDIR"]
def attempt(name, f):
    try:
        r = f()
        print("THROUGH" if r is None or r else "held", name, r, flush=True)
    except Exception: print("held", name, repr(sys.exc_info()[1]), flush=True)
CACHES = ["XDG_CACHE_HOME", "HF_HOME", "HF_MODULES_CACHE", "TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR",
    "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "CUDA_CACHE_PATH", "CUPY_CACHE_DIR"]
for name in CACHES: attempt("code left in " + name, lambda: os.path.exists(os.environ[name] + "/left.py"))
attempt("code left for torch.hub", lambda: os.path.exists(os.environ["TORCH_HOME"] + "/hub/evil_repo/hubconf.py"))
attempt("code left for transformers", lambda: os.path.exists(os.environ["HF_MODULES_CACHE"] + "/transformers_modules/evil/modeling.py"))
attempt("code left in the temporary folder", lambda: os.path.exists(TMP + "/left.py"))
attempt("the owner's documents by /tmp", lambda: os.listdir("/tmp/Documents") if os.path.isdir("/tmp/Documents") else "taxes.txt" in os.listdir("/tmp"))
attempt("the owner's documents by a state folder", lambda: "taxes.txt" in os.listdir("BASE/state/temp"))
attempt("root's closed folder by a state folder", lambda: "secret.txt" in os.listdir("BASE/state/user"))
attempt("the whole disk by a state folder", lambda: os.path.exists("BASE/state/core/etc/shadow"))
attempt("the owner's documents by a link in a share", lambda: os.listdir("OUTPUT/link"))
attempt("a set-uid program of before", lambda: os.stat(HOME + "/c").st_mode & 0o6000)
for kept in (os.environ["HF_HUB_CACHE"] + "/models--kept/weights", os.environ["TORCH_HOME"] + "/hub/checkpoints/kept.pth"):
    print("KEPT" if os.path.exists(kept) else "LOST", kept, flush=True)
print("TRIED", flush=True)
"##;

/// What another user of the machine tries afterwards; each is a script that succeeds if it gets
/// through.
const STRANGER: &[(&str, &str)] = &[
    ("the sandbox user's home", "ls /home/comfyui_sandbox/"),
    ("a file in it", "cat /home/comfyui_sandbox/secret"),
    ("a program in it", "/home/comfyui_sandbox/c"),
    ("the database", "ls BASE/state/user/"),
    ("what a node wrote", "ls BASE/state/nodes/hello/"),
    ("the caches", "ls BASE/state/cache/huggingface"),
    ("the folders of state", "ls BASE/state/"),
];

fn text(script: &str) -> String {
    script
        .replace("BASE", BASE)
        .replace("OUTPUT", "/home/alice/ai/output")
}

fn documents(m: &super::Machine) {
    m.sh(
        "install -d -o alice -g alice /home/alice/Documents; echo private > \
        /home/alice/Documents/taxes.txt; chown alice /home/alice/Documents/taxes.txt
          install -d -m 700 /srv/closed; echo root > /srv/closed/secret.txt; chmod 755 \
        /home/alice",
    );
}

fn payloads(script: &str) -> usize {
    // One of them is a loop over ten caches.
    script.matches("\nattempt(").count() + 10
}

#[test]
fn what_one_launch_leaves_the_next_one_does_not_meet() {
    private(
        "attack::launches::what_one_launch_leaves_the_next_one_does_not_meet",
        |m| {
            documents(m);
            confined::ready(m, &text(PLANT), str::to_string);
            let log = Run::start(m).end();
            assert!(
                log.contains("PLANTED") && !log.contains("not left:"),
                "{log}"
            );
            let other = |code: &str, n: u32| {
                let mut tree = crate::support::node(n);
                tree[0].1 = format!("{}\nNODE_CLASS_MAPPINGS = {{}}\n", text(code)).into();
                m.hello.commit(&crate::support::borrowed(&tree));
                ok(&m.alice(&["update", "hello"]));
            };
            other(TRY, 2);
            // Without walls, and with the state as it used to be, the same finds what was left.
            m.sh(&format!(
                "cp -a {BASE}/state /srv/state; chown comfyui_sandbox:comfyui_sandbox \
                /srv/state; chmod 755 /srv/state /home/comfyui_sandbox; nft delete table inet \
                comfy_$(id -u comfyui_sandbox)"
            ));
            let env = [
                ("XDG_CACHE_HOME", ""),
                ("HF_HOME", "/huggingface"),
                ("HF_MODULES_CACHE", "/huggingface/modules"),
                ("TORCH_HOME", "/torch"),
                ("TORCH_EXTENSIONS_DIR", "/torch_extensions"),
                ("TORCHINDUCTOR_CACHE_DIR", "/inductor"),
                ("TRITON_CACHE_DIR", "/triton"),
                ("NUMBA_CACHE_DIR", "/numba"),
                ("MPLCONFIGDIR", "/matplotlib"),
                ("CUDA_CACHE_PATH", "/cuda"),
                ("CUPY_CACHE_DIR", "/cupy"),
            ];
            let mut args: Vec<String> = env
                .iter()
                .map(|(name, folder)| format!("{name}=/srv/state/cache{folder}"))
                .collect();
            args.extend([
                "TMPDIR=/srv/state/temp".into(),
                "HF_HUB_CACHE=/srv/state/downloads/huggingface/hub".into(),
                "HOME=/home/comfyui_sandbox".into(),
            ]);
            std::fs::write(
                "/srv/both.py",
                text(&format!("{PLANT}\n{TRY}"))
                    .replace(&format!("{BASE}/state"), "/srv/state")
                    .replace("../../../../", "/"),
            )
            .unwrap();
            args.extend(["/usr/bin/python3".into(), "/srv/both.py".into()]);
            let bare = m
                .as_user(
                    "comfyui_sandbox",
                    "/usr/bin/env",
                    &args.iter().map(String::as_str).collect::<Vec<_>>(),
                )
                .output()
                .unwrap();
            let bare = said(&bare).matches("THROUGH").count();
            m.sh("chmod 6755 /home/comfyui_sandbox/c; rm -rf /srv/state");
            m.apply();
            let run = Run::start(m);
            let strangers = STRANGER.iter().filter(|(_, script)| {
                m.as_user("mallory", "/bin/sh", &["-c", &text(script)])
                    .output()
                    .unwrap()
                    .status
                    .success()
            });
            let through: Vec<&str> = strangers.map(|(name, _)| *name).collect();
            assert_eq!(through, [""; 0], "mallory");
            // The owner's plan is whole all the same.
            m.clean();
            // While it runs, another version: its caches are the running one's, and stay; the next
            // launch begins without them.
            m.sh(&format!(
                "echo x > {BASE}/state/cache/left.py; chown comfyui_sandbox \
                {BASE}/state/cache/left.py"
            ));
            other("", 3);
            m.apply();
            assert!(
                std::path::Path::new(BASE)
                    .join("state/cache/left.py")
                    .exists()
            );
            let beside = said(&m.root(&[
                "exec",
                "--",
                "/bin/sh",
                "-c",
                "ls $XDG_CACHE_HOME; echo $XDG_CACHE_HOME",
            ]));
            assert!(
                !beside.contains("left.py") && beside.contains("/state/temp/cache-"),
                "{beside}"
            );
            let log = run.end();
            assert!(log.contains("TRIED") && !log.contains("LOST"), "{log}");
            let through: Vec<&str> = log.lines().filter(|l| l.starts_with("THROUGH")).collect();
            assert_eq!(through, [""; 0], "{log}");
            assert_eq!(
                log.lines().filter(|l| l.starts_with("held")).count(),
                payloads(TRY),
                "{log}"
            );
            assert!(
                bare * 2 >= payloads(TRY),
                "only {bare} get through without walls"
            );
            assert!(
                said(&m.alice(&["status"])).contains(
                    "8 B that libraries downloaded, in /opt/comfy/comfyui_sandbox/state/downloads"
                ),
                "{}",
                said(&m.alice(&["status"]))
            );
            drop(Run::start(m).end());
            assert!(
                !std::path::Path::new(BASE)
                    .join("state/cache/left.py")
                    .exists()
            );
            assert_eq!(
                m.sh(&format!("ls {BASE}/state/temp | grep cache- || true")),
                ""
            );
            // Back to the first version: what the second left is gone too, what was downloaded is
            // not.
            m.sh(&format!(
                "echo x > {BASE}/state/cache/left.py; chown comfyui_sandbox \
                {BASE}/state/cache/left.py; cat {BASE}/state/downloads/torch/checkpoints/kept.pth \
                {BASE}/state/downloads/huggingface/hub/models--kept/weights"
            ));
            other(TRY, 2);
            m.apply();
            assert!(
                !std::path::Path::new(BASE)
                    .join("state/cache/left.py")
                    .exists()
            );
            assert_eq!(m.sh("stat -c %a /home/comfyui_sandbox/c"), "755");
            eprintln!(
                "{} payloads held, none through; without walls {bare} of them got through",
                payloads(TRY) + STRANGER.len()
            );
        },
    );
}

#[test]
fn an_instance_of_an_older_comfy_is_brought_over_before_it_is_launched() {
    private(
        "attack::launches::an_instance_of_an_older_comfy_is_brought_over_before_it_is_launched",
        |m| {
            documents(m);
            confined::ready(
                m,
                "import os\nprint('TMP', os.listdir('/tmp'), flush=True)",
                str::to_string,
            );
            for to in [
                "../../../../home/alice/Documents",
                "../../../../srv/closed",
                "../../../../proc",
                "../../../..",
            ] {
                old_state(m);
                m.sh(&format!(
                    "rm /var/lib/comfy/comfyui_sandbox/cache; mkdir \
                    {BASE}/state/cache/huggingface; mkdir {BASE}/state/cache/huggingface/hub; echo \
                    data > {BASE}/state/cache/huggingface/hub/kept-{0}; chown -R comfyui_sandbox \
                    {BASE}/state/cache; echo x > {BASE}/state/notes",
                    to.len()
                ));
                super::sandbox(m, &format!("cd {BASE}/state; rm -rf temp; ln -s {to} temp"));
                for command in [
                    &["run"][..],
                    &["start"],
                    &["exec", "--", "true"],
                    &["doctor"],
                ] {
                    let out = m
                        .root_command(command)
                        .stdin(std::process::Stdio::null())
                        .output()
                        .unwrap();
                    assert!(
                        !out.status.success()
                            && said(&out).contains("run `comfy apply`, which migrates it"),
                        "{command:?}: {}",
                        said(&out)
                    );
                }
                let plan = said(&m.alice(&["plan"]));
                assert!(
                    plan.contains("-> \"root:comfyui_sandbox 0710, alice passes\""),
                    "{plan}"
                );
                let out = m.root(&["apply", "--yes"]);
                ok(&out);
                assert!(
                    said(&out).contains("/state: notes: comfy does not know it"),
                    "{}",
                    said(&out)
                );
                let log = Run::start(m).end();
                assert!(log.contains("TMP []"), "{log}");
                assert_eq!(
                    m.sh(&format!(
                        "cat {BASE}/state/downloads/huggingface/hub/kept-*| tail \
                    -n 1; cat {BASE}/state/notes"
                    )),
                    "data\nx"
                );
                m.sh(&format!(
                    "rm -r {BASE}/state/temp.comfy-*; rm -rf {BASE}/state/downloads/huggingface"
                ));
                m.clean();
            }
            // The account comes back with its number even where the state was never brought over.
            let uid = m.sh("id -u comfyui_sandbox");
            old_state(m);
            m.sh("userdel comfyui_sandbox");
            m.apply();
            assert_eq!(m.sh("id -u comfyui_sandbox"), uid);
            m.clean();
        },
    );
}

/// Exchanges two paths as fast as it can, as their owner.
const RACE: &str = r##"
import ctypes, sys
libc = ctypes.CDLL(None)
print("racing", flush=True)
a, b = sys.argv[1].encode(), sys.argv[2].encode()
while True: libc.syscall(316, -100, a, -100, b, 2)
"##;

#[test]
fn the_owners_links_lead_a_launch_nowhere() {
    attacked(
        "attack::launches::the_owners_links_lead_a_launch_nowhere",
        |m| {
            m.sh(
                "useradd -m -s /bin/bash bob; chmod 700 /home/bob; install -d -o bob -g bob -m \
                755 /home/bob/projects; echo \"bob's\" > /home/bob/projects/plan.txt; echo own > \
                /home/bob/projects/shared.txt
              chown bob: /home/bob/projects/*; chmod 666 /home/bob/projects/shared.txt",
            );
            m.ready();
            let bobs =
                || m.sh("ls -l --time-style=full-iso /home/bob/projects; cat /home/bob/projects/*");
            let before = bobs();
            for (share, probe) in [
                ("models", "cat /home/alice/ai/models/plan.txt"),
                (
                    "output",
                    "echo x > /home/alice/ai/output/written; echo x > \
                     /home/alice/ai/output/shared.txt",
                ),
            ] {
                let path = format!("/home/alice/ai/{share}");
                m.sh(&format!(
                    "mv {path} {path}.kept; ln -s /home/bob/projects {path}; chown -h alice {path}"
                ));
                refused(
                    &m.root(&["exec", "--", "/bin/sh", "-c", probe]),
                    "a link is in the way",
                );
                m.sh(&format!(
                    "rm {path}; ln -s /home/bob/projects {path}.link; chown -h alice \
                    {path}.link; mv {path}.kept {path}"
                ));
                let mut racer = m
                    .as_user(
                        "alice",
                        "/usr/bin/python3",
                        &["-I", "-c", RACE, &path, &format!("{path}.link")],
                    )
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap();
                std::io::BufRead::read_line(
                    &mut std::io::BufReader::new(racer.stdout.take().unwrap()),
                    &mut String::new(),
                )
                .unwrap();
                let (mut started, mut leaked) = (0, 0);
                for _ in 0..30 {
                    let out = m.root(&["exec", "--", "/bin/sh", "-c", probe]);
                    started += usize::from(out.status.success());
                    leaked += usize::from(said(&out).contains("bob's"));
                }
                racer.kill().unwrap();
                racer.wait().unwrap();
                assert_eq!(
                    (leaked, bobs()),
                    (0, before.clone()),
                    "{share}: {started} of 30 launches started"
                );
                m.sh(&format!(
                    "[ -L {path} ] && mv -T {path}.link {path}.x && mv {path} \
                    {path}.link && mv {path}.x {path}; rm -f {path}.link"
                ));
            }
        },
    );
}

#[test]
fn a_share_or_prefix_that_others_could_exchange_is_refused() {
    private(
        "attack::launches::a_share_or_prefix_that_others_could_exchange_is_refused",
        |m| {
            m.ready();
            for (script, back) in [
                (
                    "chgrp comfyshared /home/alice/ai; chmod 2775 /home/alice/ai",
                    "chgrp alice /home/alice/ai; chmod 755 /home/alice/ai; chmod g-s \
                     /home/alice/ai",
                ),
                ("chmod 777 /home/alice/ai", "chmod 755 /home/alice/ai"),
                ("chown mallory /home/alice/ai", "chown alice /home/alice/ai"),
            ] {
                m.sh(script);
                let plan = said(&m.alice(&["plan"]));
                assert!(
                    plan.contains(
                        "who could put another one in the place of /home/alice/ai/models"
                    ),
                    "{plan}"
                );
                refused(
                    &m.root(&["apply", "--yes"]),
                    "who could put another one in the place of",
                );
                refused(&m.root(&["exec", "--", "true"]), "who could replace it");
                m.sh(back);
                ok(&m.root(&["exec", "--", "true"]));
            }
            // In a sticky folder nobody renames what is somebody else's.
            m.sh("chmod 1777 /home/alice/ai");
            ok(&m.root(&["exec", "--", "true"]));
            m.sh("chmod 755 /home/alice/ai; install -d -o alice -g comfyshared -m 2775 /srv/team");
            m.manifest(&super::super::machine::MANIFEST.replace(
                "[comfyui]",
                "[host]\nprefix = \"/srv/team/comfy\"\n\n[comfyui]",
            ));
            refused(
                &m.root(&["apply", "--yes"]),
                "the folder /srv/team can be written by others",
            );
            assert!(!std::path::Path::new("/srv/team/comfy").exists());
        },
    );
}

#[test]
fn others_folders_in_a_share_are_left_alone_and_copies_of_folders_work() {
    private(
        "attack::launches::others_folders_in_a_share_are_left_alone_and_copies_of_folders_work",
        |m| {
            let copy = "import os, shutil\nshutil.rmtree('/home/alice/ai/output/copy', \
                ignore_errors=True)\nshutil.copytree('/home/alice/ai/output/day', \
                '/home/alice/ai/output/copy')\nprint('COPIED', \
                oct(os.stat('/home/alice/ai/output/copy').st_mode), flush=True)";
            m.sh(
                "install -d -o alice -g alice /home/alice/ai /home/alice/ai/output \
                /home/alice/ai/output/day; echo x > /home/alice/ai/output/day/p; chown alice \
                /home/alice/ai/output/day/p",
            );
            confined::ready(m, copy, str::to_string);
            m.sh("mkdir /home/alice/ai/output/docker; echo run > \
                /home/alice/ai/output/docker/run.sh; chmod 755 /home/alice/ai/output/docker");
            let before = m.sh("stat -c '%U %G %a' /home/alice/ai/output/docker");
            let log = Run::start(m).end();
            assert!(log.contains("COPIED 0o42775"), "{log}");
            assert!(said(&m.alice(&["plan"])).contains("left alone, for example docker"));
            m.clean();
            assert_eq!(
                m.sh("stat -c '%U %G %a' /home/alice/ai/output/docker"),
                before
            );
        },
    );
}

#[test]
fn nobody_else_makes_the_prefix_first_or_mounts_into_a_launch() {
    private(
        "attack::launches::nobody_else_makes_the_prefix_first_or_mounts_into_a_launch",
        |m| {
            m.sh("install -d -m 1777 /srv/scratch");
            m.manifest(&super::super::machine::MANIFEST.replace(
                "[comfyui]",
                "[host]\nprefix = \"/srv/scratch/comfy\"\n\n[comfyui]",
            ));
            m.lock();
            ok(&m
                .as_user(
                    "mallory",
                    "/bin/sh",
                    &[
                        "-c",
                        "mkdir -p \
                /srv/scratch/comfy/comfyui_sandbox/python /srv/scratch/comfy/comfyui_sandbox/gen",
                    ],
                )
                .output()
                .unwrap());
            refused(
                &m.root(&["apply", "--yes"]),
                "who could put another one in the place of /srv/scratch/comfy/comfyui_sandbox/gen",
            );
            m.sh("rm -r /srv/scratch/comfy");
            m.apply();
            m.clean();
            // Below the owner's own home it is planned and launched alike.
            ok(&m.root(&["destroy", "--yes"]));
            m.manifest(&super::super::machine::MANIFEST.replace(
                "[comfyui]",
                "[host]\nprefix = \"/home/alice/comfy\"\n\n[comfyui]",
            ));
            m.sh("chmod 711 /home/alice");
            m.apply();
            ok(&m.root(&["exec", "--", "true"]));
            // A program of the sandbox's in a share is started by nobody else as the sandbox.
            m.sh(
                "cp /bin/cat /home/alice/ai/output/c; chown comfyui_sandbox:comfyshared \
                /home/alice/ai/output/c; chmod 6755 /home/alice/ai/output/c",
            );
            // What is mounted below a share while a launch goes on does not appear in it.
            let mut run = m.root_command(&[
            "exec",
            "--",
            "/bin/sh",
            "-c",
            "mkdir /home/alice/ai/output/m; echo ready; read x; ls /home/alice/ai/output/m; stat \
             -c %a /home/alice/ai/output/c",
        ]);
            let mut run = run
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            while !std::path::Path::new("/home/alice/ai/output/m").exists() {
                assert!(run.try_wait().unwrap().is_none(), "it ended early");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            m.sh(
                "mount --make-rshared /; mount -t tmpfs tmpfs /home/alice/ai/output/m; echo x > \
                /home/alice/ai/output/m/appeared",
            );
            drop(run.stdin.take());
            let out = run.wait_with_output().unwrap();
            m.sh("umount /home/alice/ai/output/m; mount --make-rprivate /");
            assert!(
                !said(&out).contains("appeared") && said(&out).contains("775"),
                "{}",
                said(&out)
            );
        },
    );
}
