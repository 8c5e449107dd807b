//! Set-uid bits, capabilities, access lists and descriptors that are still open.

use super::super::machine::{BASE, attacked, ok, said};
use super::{OUTPUT, apply, ready, sandbox, victims};

#[test]
fn no_right_is_given_or_given_back() {
    attacked("attack::rights::no_right_is_given_or_given_back", |m| {
        ready(m);
        let before = victims(m);
        let stat = "stat -c '%n %u:%g %a'";
        // Set-uid and set-gid programs: the sandbox's lose it, root's and those with a capability
        // are neither mended nor believed.
        sandbox(
            m,
            &format!(
                "cp /bin/true {OUTPUT}/s; chmod 6755 {OUTPUT}/s; cp /bin/true {BASE}/state/temp/s; \
                 chmod 6755 {BASE}/state/temp/s; cp /bin/true ~/s; chmod 4755 ~/s"
            ),
        );
        m.sh(&format!(
            "cp /bin/true {OUTPUT}/cap; setcap cap_dac_override+ep {OUTPUT}/cap; cp \
            /bin/true {OUTPUT}/root; chmod 4711 {OUTPUT}/root"
        ));
        let files = format!("{stat} {OUTPUT}/cap {OUTPUT}/root; getcap {OUTPUT}/cap");
        let was = m.sh(&files);
        m.sh(&format!("chmod 755 {OUTPUT}; rm {BASE}/current"));
        let seen = said(&m.alice(&["plan"]));
        assert!(
            seen.contains("1 file of the sandbox user is set-uid or set-gid"),
            "{seen}"
        );
        ok(&apply(m));
        assert_eq!(m.sh(&files), was, "left alone");
        assert_eq!(
            m.sh(&format!(
                "stat -c %a {OUTPUT}/s {BASE}/state/temp/s \
            /home/comfyui_sandbox/s 2> /dev/null | tr '\\n' ' '"
            ))
            .trim(),
            "775 \
            755 755"
        );
        let told = said(&m.alice(&["plan"]));
        assert!(
            told.contains("set-uid or set-gid files: left alone, for example root"),
            "{told}"
        );
        assert!(
            told.contains("neither the owner nor the sandbox user: left alone, for example cap"),
            "{told}"
        );
        // The sandbox's own file with a capability and a wrong group: the group is mended, the
        // capability is gone.
        sandbox(
            m,
            &format!(
                "cp /bin/true {OUTPUT}/mine; chmod 775 {OUTPUT}/mine; chgrp comfyui_sandbox \
                 {OUTPUT}/mine"
            ),
        );
        m.sh(&format!("setcap cap_setuid+ep {OUTPUT}/mine"));
        ok(&apply(m));
        assert_eq!(
            m.sh(&format!("{stat} {OUTPUT}/mine; getcap {OUTPUT}/mine")),
            m.sh(&format!(
                "echo {OUTPUT}/mine $(id -u comfyui_sandbox):$(getent group comfyshared \
                | cut -d: -f3) 775"
            ))
        );
        // A folder that hands everything made in it to the sandbox, in the share that it may only
        // add to.
        sandbox(
            m,
            "cd /opt/ai/models; mkdir gift gift/in; setfacl -d -m \
             u:comfyui_sandbox:rwx,u:mallory:rwx gift gift/in; setfacl -m u:mallory:rwx,m::rwx \
             gift; chmod 3775 gift gift/in",
        );
        let out = apply(m);
        ok(&out);
        m.sh(
            "setpriv --reuid alice --regid alice --init-groups sh -c 'umask 022; cd \
            /opt/ai/models; echo m > gift/a; mkdir gift/sub; echo m > gift/sub/b; echo m > \
            gift/in/c'",
        );
        for file in ["gift/a", "gift/sub/b", "gift/in/c"] {
            for user in ["comfyui_sandbox", "mallory"] {
                let out = m
                    .as_user(
                        user,
                        "/bin/sh",
                        &["-c", &format!("echo x >> /opt/ai/models/{file}")],
                    )
                    .output()
                    .unwrap();
                assert!(
                    !out.status.success(),
                    "{user} may write {file}: {}",
                    m.sh("getfacl -R /opt/ai/models/gift")
                );
            }
        }
        // A folder of the owner's that inherited such a list before anybody looked.
        sandbox(
            m,
            "cd /opt/ai/models; mkdir trap; setfacl -d -m u:mallory:rwx trap; chmod 3777 trap",
        );
        m.sh(
            "setpriv --reuid alice --regid alice --init-groups sh -c 'umask 022; mkdir \
            /opt/ai/models/trap/own'; chmod 3775 /opt/ai/models/trap/own",
        );
        ok(&apply(m));
        assert_eq!(
            m.sh("getfacl -Rcp /opt/ai/models | grep -c -e mallory -e default || true"),
            "0",
            "{}",
            m.sh("getfacl -Rp /opt/ai/models")
        );
        m.clean();
        // A mode brings no masked entry back to life.
        sandbox(
            m,
            &format!(
                "echo x > {OUTPUT}/masked; setfacl -m u:mallory:rw {OUTPUT}/masked; chmod 604 \
                 {OUTPUT}/masked; chgrp comfyui_sandbox {OUTPUT}/masked"
            ),
        );
        ok(&apply(m));
        assert_eq!(
            m.sh(&format!(
                "getfacl -cp {OUTPUT}/masked | grep -c mallory || true"
            )),
            "0"
        );
        assert_eq!(victims(m), before);
    });
}

#[test]
fn an_open_descriptor_writes_into_nothing_that_is_kept() {
    attacked(
        "attack::rights::an_open_descriptor_writes_into_nothing_that_is_kept",
        |m| {
            ready(m);
            m.sh(
                "head -c 300000 /dev/urandom > /home/alice/m.bin; chown alice /home/alice/m.bin; \
                cp /home/alice/m.bin /opt/good",
            );
            // The sandbox user puts its own file where a model will be, and its bytes where a copy
            // could be taken from: both stay open.
            let mut holder = m
                .as_user(
                    "comfyui_sandbox",
                    "/usr/bin/python3",
                    &[
                        "-I",
                        "-c",
                        "import sys, time\nf = \
                [open('/opt/ai/models/' + n, 'wb+') for n in ('m.bin', \
                'copy.bin')]\nf[1].write(open('/opt/good', 'rb').read()); \
                f[1].flush()\nprint('open', flush=True)\nsys.stdin.readline()\nfor x in f:\n    \
                x.seek(0); x.write(b'EVIL'); x.flush()\nprint('written', \
                flush=True)\nsys.stdin.readline()",
                    ],
                )
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let (mut stdin, mut stdout) = (
                holder.stdin.take().unwrap(),
                std::io::BufReader::new(holder.stdout.take().unwrap()),
            );
            let mut line = String::new();
            std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
            m.manifest(&format!(
                "{}[models.\"m.bin\"]\nsource = \"file:~/m.bin\"\n",
                super::manifest()
            ));
            m.lock();
            ok(&apply(m));
            std::io::Write::write_all(&mut stdin, b"\n").unwrap();
            std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
            assert_eq!(line, "open\nwritten\n");
            assert_eq!(
                m.sh("cmp /opt/good /opt/ai/models/m.bin && stat -c '%U %a' /opt/ai/models/m.bin"),
                "alice 644"
            );
            assert_eq!(m.alice(&["verify", "--full"]).status.code(), Some(0));
            drop(stdin);
            holder.wait().unwrap();
        },
    );
}
