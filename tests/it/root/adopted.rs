//! `init --from`: what is there becomes comfy.toml and comfy.lock, and stays as it is.

use super::machine::{Machine, ok, private, said};
use crate::support::redacted;

/// alice's ComfyUI as she made it: checkouts, one of them changed, one off, one with a commit that
/// nobody else has; a folder of her own, a file, models in three places, a virtual environment.
const INSTALLATION: &str = r#"
set -e
cd /home/alice
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
export GIT_AUTHOR_DATE=2024-01-01T00:00:00Z GIT_COMMITTER_DATE=2024-01-01T00:00:00Z
clone() {
    git clone -q file:///srv/upstream/up/$1.git $2
    git -C $2 remote set-url origin $3
}
clone ComfyUI ComfyUI https://github.com/up/ComfyUI
git -C ComfyUI reset -q --hard HEAD~1
cd ComfyUI
clone hello custom_nodes/hello git@github.com:up/hello.git
clone world custom_nodes/world.disabled https://token@github.com/up/world
clone third custom_nodes/third https://github.com/up/third
echo '# mine' >> custom_nodes/hello/__init__.py
echo 'x = 1' > custom_nodes/hello/more.py
echo hunter2 > custom_nodes/hello/keys.env; echo '*.env' > custom_nodes/hello/.gitignore
git -C custom_nodes/third commit -q --allow-empty -m local
# What whoever made the checkout would have run.
git -C custom_nodes/hello config core.fsmonitor 'touch /home/alice/RAN; false'
git -C custom_nodes/hello config filter.x.clean 'touch /home/alice/RAN'
echo '*.py filter=x' > custom_nodes/hello/.git/info/attributes
printf '#!/bin/sh\ntouch /home/alice/RAN\n' > custom_nodes/hello/.git/hooks/post-index-change
chmod 755 custom_nodes/hello/.git/hooks/post-index-change
mkdir custom_nodes/own; echo 'NODE_CLASS_MAPPINGS = {}' > custom_nodes/own/__init__.py
echo 'x = 1' > custom_nodes/lone.py
mkdir -p ../.ssh models/loras ../sd/models/Stable-diffusion ../vae user/default/workflows
for i in 1 2 3; do echo $i > models/loras/$i.pt; echo s$i > ../sd/models/Stable-diffusion/$i.ckpt; done
echo v > ../vae/v.pt; ln -s /home/alice/vae/v.pt models/loras/link.pt
printf 'a111:\n  base_path: ../sd\n  checkpoints: models/Stable-diffusion\nnas:\n  vae: ../vae\nhostile:\n  base_path: /\n  checkpoints: etc\n  loras: |\n    home/alice\n    .\n  vae: home/alice/.ssh\n' > extra_model_paths.yaml
mkdir -p venv/lib/pythonPYTHON/site-packages/numpy-1.26.4.dist-info
printf 'version = PYTHON.4\n' > venv/pyvenv.cfg
chown -R alice:alice /home/alice
"#;

/// Every file of alice's with what a change would change.
fn picture(m: &Machine) -> String {
    m.sh(
        "cd /home/alice; find ComfyUI sd vae -printf '%p %y %s %i %T@ %m %u\\n' | sort; \
         find ComfyUI sd vae -type f -exec sha256sum {} + | sort",
    )
}

#[test]
fn an_installation_becomes_code_and_stays_as_it_is() {
    private(
        "adopted::an_installation_becomes_code_and_stays_as_it_is",
        |m| {
            let third =
                crate::support::Upstream::new(std::path::Path::new("/srv/upstream"), "up/third");
            third.commit(&[("__init__.py", b"NODE_CLASS_MAPPINGS = {}\n", 0o100_644)]);
            m.core
                .commit(&[("main.py", b"print('newer')\n", 0o100_644)]);
            m.sh("chmod -R a+rX /srv/upstream");
            let python = crate::support::python();
            m.sh(&INSTALLATION.replace("PYTHON", &python));
            let before = picture(m);
            let alice = |args: &[&str]| {
                let all = [&["-C", "/home/alice/new"], args].concat();
                m.as_user("alice", "/opt/bin/comfy", &all).output().unwrap()
            };
            let from = [
                "init",
                "--isolation",
                "none",
                "--from",
                "/home/alice/ComfyUI",
            ];
            let out = alice(&[&from[..], &["--patches", "/home/alice/patches"]].concat());
            ok(&out);
            insta::assert_snapshot!(redacted(&said(&out)), @r#"
            Adopted a ComfyUI folder: 4 repositories, 7 models, 6 shares.

            Not reproduced, or not as it was (9):
            - 1 Python package that neither ComfyUI nor a node asks for: numpy
              to settle it: nothing; or, with those that you use, [python] requirements = ["numpy==1.26.4"]
            - extra_model_paths.yaml, section hostile: checkpoints = /etc belongs to the system: it is not adopted
            - extra_model_paths.yaml, section hostile: loras = / is the root of the file system: it is not adopted
            - extra_model_paths.yaml, section hostile: loras = /home/alice is a home, or contains one: it is not adopted
            - extra_model_paths.yaml, section hostile: vae = /home/alice/.ssh is in a hidden folder of your home, where keys and settings are kept: it is not adopted
              to settle it: move the models into a folder of their own, and declare it: [shares.NAME] models = { checkpoints = "FOLDER" }
            - model "loras/link.pt" of share models: it is a link
              to settle it: declare the folder that it leads to as a share, or put the file itself there; comfy follows no link to a model
            - node hello: it differs from commit 876b98b: 1 file changed (__init__.py), 3 files added (.gitignore, keys.env, more.py; 20 B)
              to settle it: /home/alice/patches/hello.patch has the changes; commit them to a repository of yours and write its address as `repo`; or write path = "/home/alice/ComfyUI/custom_nodes/hello" instead of `repo` and `ref`, which installs the folder as it is
            - node lone.py: it is a single file
              to settle it: move it into a folder of its own, as __init__.py, and add that folder
            - node third: https://github.com/up/third: file:///srv/upstream/up/third.git does not have commit COMMIT
              to settle it: its section is a comment in comfy.toml: push the commit to a repository of yours and write that as `repo`, or a `ref` that is there, or path = "/home/alice/ComfyUI/custom_nodes/third" instead, which installs the folder as it is; uncomment the section and run `comfy lock`
            isolation = "none": ComfyUI and its nodes have all your rights; nothing is protected.
            Wrote /home/alice/new/comfy.toml and comfy.lock. Read them, then run: comfy plan
            "#);
            assert_eq!(picture(m), before);
            m.sh("! test -e /home/alice/RAN");
            insta::assert_snapshot!(m.sh("cat /home/alice/patches/hello.patch | tail -n +2"), @"
            diff --git a/__init__.py b/__init__.py
            --- a/__init__.py
            +++ b/__init__.py
            @@ -1,2 +1,3 @@
             VERSION = 1
             NODE_CLASS_MAPPINGS = {}
            +# mine
            diff --git a/.gitignore b/.gitignore
            new file mode 100644
            --- /dev/null
            +++ b/.gitignore
            @@ -0,0 +1 @@
            +*.env
            # keys.env: left out, .gitignore names it
            diff --git a/more.py b/more.py
            new file mode 100644
            --- /dev/null
            +++ b/more.py
            @@ -0,0 +1 @@
            +x = 1
            ");
            let manifest = m.sh("sed -n '/^.comfyui/,/^.models/p' /home/alice/new/comfy.toml");
            assert!(!manifest.contains("token"), "{manifest}");
            let shown = redacted(&manifest).replace(&python, "PYTHON");
            insta::assert_snapshot!(shown, @r#"
            [comfyui]
            repo = "https://github.com/up/ComfyUI"
            ref  = "main"  # installed: 1afa6ed

            [python]
            version      = "PYTHON"
            platforms    = ["linux-x86_64"]  # this machine's alone; add "macos-arm64" for a lock that serves others

            [nodes.hello]
            repo = "https://github.com/up/hello"
            ref  = "main"  # installed: 876b98b

            [nodes.own]
            path = "/home/alice/ComfyUI/custom_nodes/own"

            # Not locked; the list of `comfy init` says why.
            # [nodes.third]
            # repo = "https://github.com/up/third"
            # ref  = "COMMIT"  # what was installed

            [nodes.world]
            repo = "https://github.com/up/world"
            ref  = "main"  # installed: 6b39554
            enabled = false  # locked, and not on the machine

            [shares.models]
            path   = "/home/alice/ComfyUI/models"
            mount  = "models"
            access = "read"
            manage = false  # used as it is: comfy sets no groups and modes in it

            [shares.input]
            path   = "/home/alice/ComfyUI/input"
            mount  = "input"
            access = "write"
            manage = false  # used as it is: comfy sets no groups and modes in it

            [shares.output]
            path   = "/home/alice/ComfyUI/output"
            mount  = "output"
            access = "write"
            manage = false  # used as it is: comfy sets no groups and modes in it

            [shares.workflows]
            path   = "/home/alice/ComfyUI/user/default/workflows"
            mount  = "user/default/workflows"
            access = "write"
            manage = false  # used as it is: comfy sets no groups and modes in it

            [shares.a111]
            path   = "/home/alice/sd"
            models = { checkpoints = "models/Stable-diffusion" }
            access = "read"
            manage = false  # used as it is: comfy sets no groups and modes in it

            [shares.nas-vae]
            path   = "/home/alice/vae"
            models = { vae = "." }
            access = "read"
            manage = false  # used as it is: comfy sets no groups and modes in it

            [models."models/Stable-diffusion/1.ckpt"]
            "#);
            // Root is told at once, before anything is read, and whom the file names.
            let root = |args: &[&str]| {
                let all = [&["HOME=/root", "/opt/bin/comfy", "-C", "/srv/dot"], args].concat();
                said(&m.as_user("root", "env", &all).output().unwrap())
            };
            m.sh(
                "cp /etc/passwd /etc/passwd.all; sed -i -E '/^alice:/!{/:[0-9]{4,}:[0-9]+:.*sh$/d}' \
                 /etc/passwd",
            );
            insta::assert_snapshot!(root(&from), @r#"
            error: isolation "none" runs everything as alice, but you are root
              hint: run it as alice, without sudo
            "#);
            insta::assert_snapshot!(root(&["init", "--from", "/home/alice/ComfyUI"]), @"
            error: do not run this as root: root must not read third-party repositories
              hint: run it as the user whose installation it is
              hint: `--isolation none` is for machines where ComfyUI runs as root anyway
            ");
            m.sh("! test -e /srv/dot");
            insta::assert_snapshot!(root(&["init", "--isolation", "none"]), @r#"
            warning: you are root, and isolation = "none" runs ComfyUI and every command as the primary user; the file names alice. Run comfy as alice, without sudo; where ComfyUI is to run as root, write primary_user = "root"
            Wrote /srv/dot/comfy.toml. Read it, edit it, then run: comfy lock
            "#);
            m.sh("rm -r /srv/dot; cp /etc/passwd.all /etc/passwd");
            // Once is enough.
            let again = alice(&from);
            assert_eq!(again.status.code(), Some(1));
            assert!(said(&again).contains("already exists"), "{}", said(&again));
            ok(&alice(&["lock", "--check"]));
            // Into a prefix of its own: the same commits, the same files, and no model moved.
            m.sh("rm -f /home/alice/ComfyUI/models/loras/link.pt");
            let before = picture(m);
            ok(&alice(&["apply", "--yes"]));
            assert_eq!(picture(m), before);
            m.sh(
                "set -e; export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'; live=/home/alice/.local/share/comfy/comfyui_sandbox/current/ComfyUI; cd \
                 /home/alice/ComfyUI; \
                 test $(git rev-parse HEAD) = $(sed -n '/^.comfyui/,/^tree/s/^commit = \"\\(.*\\)\"/\\1/p' /home/alice/new/comfy.lock); \
                 for f in $(git ls-files | grep -v -e ^models -e ^input -e ^output); do cmp <(git show HEAD:$f) $live/$f; done; \
                 cmp <(git -C custom_nodes/hello show HEAD:__init__.py) $live/custom_nodes/hello/__init__.py; \
                 cmp custom_nodes/own/__init__.py $live/custom_nodes/own/__init__.py; \
                 ! test -e $live/custom_nodes/world",
            );
            let out = alice(&["plan", "--exit-code"]);
            assert_eq!(out.status.code(), Some(0), "{}", said(&out));
            // What another tool reads is read again with the same pins.
            let snapshot = alice(&["export", "manager-snapshot"]);
            ok(&snapshot);
            m.sh(
                "ln -s up /srv/upstream/Comfy-Org; install -d -o alice -g alice /home/alice/again",
            );
            std::fs::write("/home/alice/again/snapshot.json", &snapshot.stdout).unwrap();
            let all = [
                "-C",
                "/home/alice/again",
                "init",
                "--isolation",
                "none",
                "--from",
                "/home/alice/again/snapshot.json",
            ];
            let out = m.as_user("alice", "/opt/bin/comfy", &all).output().unwrap();
            ok(&out);
            assert_eq!(
                m.sh("cd /home/alice; diff <(grep ^commit new/comfy.lock) <(grep ^commit again/comfy.lock) || true")
                    .lines()
                    .filter(|l| l.starts_with('>'))
                    .count(),
                0,
                "{}",
                said(&out)
            );
        },
    );
}
