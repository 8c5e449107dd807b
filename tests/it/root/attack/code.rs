//! Repositories, bytecode and start-up files of the sandbox user's: nobody else ever runs one.

use super::super::machine::{BASE, attacked, ok, said};
use super::{OUTPUT, apply, ready, sandbox, victims};

#[test]
fn nothing_planted_is_run_by_root_or_the_owner() {
    attacked(
        "attack::code::nothing_planted_is_run_by_root_or_the_owner",
        |m| {
            ready(m);
            let before = victims(m);
            m.sh("install -d -m 1777 /opt/marks");
            let state = format!("{BASE}/state");
            // In every folder that the sandbox can write: a repository whose settings run programs,
            // packages that start with Python.
            let plant = format!(
                r#"
cat > /opt/marks/run <<'END'
#!/bin/sh
id -un >> /opt/marks/$(id -un).ran
END
chmod 755 /opt/marks/run
for d in ~ {state} {state}/user {state}/nodes/hello {state}/nodes/hello/data {state}/temp {state}/cache {OUTPUT} /opt/ai/input; do
  mkdir -p $d/.git/hooks $d/__pycache__ $d/ComfyUI.git
  printf '[core]\n fsmonitor = /opt/marks/run\n sshCommand = /opt/marks/run\n hooksPath = .git/hooks\n bare = false\n repositoryformatversion = 0\n[diff]\n external = /opt/marks/run\n[credential]\n helper = /opt/marks/run\n[gpg]\n program = /opt/marks/run\n[filter "x"]\n clean = /opt/marks/run\n smudge = /opt/marks/run\n[alias]\n status = !/opt/marks/run\n[include]\n path = /opt/marks/more\n' > $d/.git/config
  printf 'ref: refs/heads/main\n' > $d/.git/HEAD; mkdir -p $d/.git/objects $d/.git/refs
  for h in post-checkout post-merge reference-transaction pre-auto-gc; do cp /opt/marks/run $d/.git/hooks/$h; done
  cp -r $d/.git/. $d/ComfyUI.git/
  printf '* filter=x\n' > $d/.gitattributes
  cp $d/.git/config $d/.gitconfig
  printf 'import os; os.system("/opt/marks/run")\n' | tee $d/sitecustomize.py $d/usercustomize.py $d/evil.pth $d/pip.py $d/encodings.py $d/conftest.py > $d/os.py
  python3 -c 'import py_compile,sys; py_compile.compile(sys.argv[1]+"/os.py", sys.argv[1]+"/__pycache__/os.pyc")' $d
  printf '#!/bin/sh\nexec /opt/marks/run\n' | tee $d/git $d/uv $d/python3 $d/nft $d/useradd > $d/sudo; chmod 755 $d/git $d/uv $d/python3 $d/nft $d/useradd $d/sudo
done"#
            );
            super::old_state(m);
            sandbox(m, &plant);
            m.hello
                .commit(&crate::support::borrowed(&crate::support::node(2)));
            ok(&m.alice(&["update"]));
            m.sh(&format!("chmod 755 {OUTPUT} {state}/temp"));
            // From the worst folders to be in, with everything that looks at code.
            for folder in [
                "/home/comfyui_sandbox".to_string(),
                format!("{state}/nodes/hello"),
                OUTPUT.to_string(),
            ] {
                for command in [
                    &["apply", "--yes"][..],
                    &["verify", "--full"],
                    &["plan", "-v"],
                    &["outdated"],
                    &["doctor"],
                    &["gc", "--yes"],
                    &["status"],
                ] {
                    let mut c = m.root_command(command);
                    let out = c.current_dir(&folder).output().unwrap();
                    let about =
                        ["outdated", "doctor"].contains(&command[0]) || out.status.success();
                    assert!(about, "{command:?}: {}", said(&out));
                    let mut c = m.as_user(
                        "alice",
                        "/bin/sh",
                        &[
                            "-c",
                            &format!(
                                "cd {folder} && exec /opt/bin/comfy -C /home/alice/dot \"$@\""
                            ),
                            "sh",
                        ],
                    );
                    if command[0] != "apply" && command[0] != "gc" && command[0] != "doctor" {
                        c.args(command).output().unwrap();
                    }
                }
            }
            ok(&apply(m));
            assert_eq!(
                m.sh("ls /opt/marks | grep ran || true"),
                "",
                "run as {}",
                m.sh("cat /opt/marks/*.ran || true")
            );
            assert_eq!(victims(m), before);
            m.clean();
            // The sandbox's files are none of the generation's.
            assert_eq!(
                m.sh(&format!(
                    "find {BASE}/gen {BASE}/venv -user comfyui_sandbox | wc -l"
                )),
                "0"
            );
        },
    );
}
