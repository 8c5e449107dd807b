//! What root inherits from whoever calls it.

use super::super::machine::{BASE, attacked, ok, said};
use super::{ready, refused, sandbox, victims};

#[test]
fn nothing_of_the_callers_environment_runs_or_opens_anything() {
    attacked(
        "attack::environment::nothing_of_the_callers_environment_runs_or_opens_anything",
        |m| {
            m.sh("install -d -m 1777 /opt/marks");
            ready(m);
            let before = victims(m);
            m.sh("install -d -o comfyui_sandbox /opt/hostile");
            sandbox(
                m,
                r#"HOME=/opt/hostile; cd; mkdir ~/bin ~/.config ~/.config/comfy ~/comfy-py; printf '#!/bin/sh\n/usr/bin/id -un >> /opt/marks/ran; exec /usr/bin/"${0##*/}" "$@"\n' > ~/bin/git; chmod 755 ~/bin/git
               for p in uv python3 nft useradd groupadd gpasswd usermod userdel sudo setfacl unshare sh bash ps id; do cp ~/bin/git ~/bin/$p; done
               printf '[core]\n fsmonitor = /opt/hostile/bin/id\n[url "file:///opt/victim/"]\n insteadOf = https://github.com/\n insteadOf = file:///srv/upstream/\n' > ~/.gitconfig
               printf 'import os; os.system("/opt/hostile/bin/id")\n' | tee ~/comfy-py/sitecustomize.py ~/comfy-py/os.py > ~/comfy-py/re.py
               echo 'mirrors = "https://github.com/=file:///opt/victim/"' > ~/.config/comfy/config.toml"#,
            );
            ok(&m.root(&["destroy", "--yes", "--purge"]));
            let home = "/opt/hostile";
            let hostile = |m: &super::Machine, args: &[&str]| {
                let mut c = m.root_command(args);
                c.env(
                    "PATH",
                    format!("{home}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
                )
                .envs([
                    ("HOME", home),
                    ("XDG_CONFIG_HOME", "/opt/hostile/.config"),
                    ("XDG_CACHE_HOME", home),
                    ("TMPDIR", home),
                    ("PWD", home),
                ])
                .envs(
                    [
                        "PYTHONPATH",
                        "PYTHONHOME",
                        "PYTHONSTARTUP",
                        "PYTHONUSERBASE",
                    ]
                    .map(|k| (k, format!("{home}/comfy-py"))),
                )
                .envs(
                    [
                        "GIT_SSH_COMMAND",
                        "GIT_EXTERNAL_DIFF",
                        "GIT_PROXY_COMMAND",
                        "GIT_ASKPASS",
                        "GIT_EDITOR",
                        "PAGER",
                        "EDITOR",
                        "SHELL",
                    ]
                    .map(|k| (k, format!("{home}/bin/id"))),
                )
                .envs([
                    ("GIT_CONFIG_COUNT", "1"),
                    ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
                    ("GIT_CONFIG_VALUE_0", "/opt/hostile/bin/id"),
                ])
                .envs([
                    ("GIT_DIR", home),
                    ("GIT_CONFIG_GLOBAL", "/opt/hostile/.gitconfig"),
                    ("GIT_EXEC_PATH", "/opt/hostile/bin"),
                    ("GIT_TRACE", "/opt/victim/d/trace"),
                ])
                .envs([
                    ("BASH_ENV", "/opt/hostile/bin/id"),
                    ("ENV", "/opt/hostile/bin/id"),
                    ("IFS", "/"),
                    ("LC_ALL", "../../evil"),
                ])
                .envs([
                    ("RUST_BACKTRACE", "1"),
                    ("RAYON_NUM_THREADS", "3"),
                    ("SSL_CERT_FILE", "/opt/victim/f"),
                ]);
                // Everything that is made may be written by everybody, if it goes by the caller.
                std::process::Command::new("/bin/sh")
                    .args(["-c", "umask 000; exec \"$0\" \"$@\""])
                    .arg(c.get_program())
                    .args(c.get_args())
                    .env_clear()
                    .envs(c.get_envs().filter_map(|(k, v)| Some((k, v?))))
                    .current_dir(home)
                    .output()
                    .unwrap()
            };
            for args in [
                &["apply", "--yes"][..],
                &["verify"],
                &["exec", "--", "true"],
                &["doctor"],
                &["plan"],
                &["gc", "--yes"],
            ] {
                let out = hostile(m, args);
                assert!(
                    out.status.success() || args == ["doctor"],
                    "{args:?}: {}",
                    said(&out)
                );
            }
            assert_eq!(m.sh("cat /opt/marks/ran 2> /dev/null || true"), "");
            assert_eq!(
                m.sh(&format!(
                    "find {BASE}/gen {BASE}/venv {BASE}/.staging /var/lib/comfy \
                /run/comfy /opt/comfy -maxdepth 3 ! -type l -perm /022 ! -path '*/state*' ! -path \
                '*/store*'"
                )),
                ""
            );
            assert_eq!(victims(m), before);
            m.clean();
            // The sandbox user is nobody whom root works for.
            let uid = m.sh("id -u comfyui_sandbox");
            for (args, user) in [
                (&["apply", "--yes"][..], "comfyui_sandbox"),
                (&["destroy", "--yes"], "comfyui_sandbox"),
                (&["apply", "--yes"], "alice"),
            ] {
                let out = m
                    .root_command(args)
                    .env("SUDO_UID", &uid)
                    .env("SUDO_USER", user)
                    .output()
                    .unwrap();
                assert_eq!(
                    out.status.code(),
                    Some(1),
                    "{args:?} {user}: {}",
                    said(&out)
                );
            }
            refused(
                &m.root_command(&["run"])
                    .env("SUDO_UID", &uid)
                    .output()
                    .unwrap(),
                "error: ",
            );
            m.clean();
        },
    );
}
