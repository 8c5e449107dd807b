//! Hard and symbolic links to what belongs to others, everywhere the sandbox user can put one.

use super::super::machine::{BASE, attacked, ok, said};
use super::{OUTPUT, apply, ready, refused, sandbox, sandbox_may, victims};

#[test]
fn hard_links_to_others_files_open_nothing() {
    attacked(
        "attack::links::hard_links_to_others_files_open_nothing",
        |m| {
            ready(m);
            m.sh(&format!(
                "echo doc > {OUTPUT}/doc; chown alice:comfyshared {OUTPUT}/doc; chmod \
                664 {OUTPUT}/doc"
            ));
            m.clean();
            // The owner's file that the group may write can be linked whatever the kernel guards.
            sandbox(
                m,
                &format!(
                    "ln {OUTPUT}/doc {BASE}/state/user/doc; ln {OUTPUT}/doc {BASE}/state/temp/doc"
                ),
            );
            let others = ["alice/key", "mallory/key", "victim/f"];
            let linked = others.map(|f| {
                sandbox_may(
                    m,
                    &format!(
                        "ln /opt/{f} {OUTPUT}/{}; ln /opt/{f} {BASE}/state/user/default/x-{}",
                        f.replace('/', "-"),
                        f.replace('/', "-")
                    ),
                )
            });
            eprintln!("hard links to {others:?}: {linked:?}");
            m.sh(&format!(
                "chown root {OUTPUT}/doc; chown alice {OUTPUT}/doc; chmod g-s {OUTPUT}; \
                chmod 700 {BASE}/state/temp"
            ));
            let before = victims(m);
            let doc = m.sh(&format!("stat -c '%u:%g %a %i' {OUTPUT}/doc"));
            let out = apply(m);
            ok(&out);
            assert_eq!(victims(m), before, "{}", said(&out));
            assert_eq!(m.sh(&format!("stat -c '%u:%g %a %i' {OUTPUT}/doc")), doc);
            // Which of them were left alone is said.
            let told = said(&m.alice(&["plan"]));
            if linked[0] {
                assert!(
                    told.contains("hard link elsewhere: left alone, for example alice-key"),
                    "{told}"
                );
            }
            ok(&m.root(&["destroy", "--yes"]));
            assert_eq!(victims(m), before);
            assert_eq!(m.sh(&format!("cat {OUTPUT}/doc")), "doc");
        },
    );
}

#[test]
fn nothing_is_made_or_changed_through_a_link() {
    attacked(
        "attack::links::nothing_is_made_or_changed_through_a_link",
        |m| {
            ready(m);
            let before = victims(m);
            // Each place that an apply makes something in, led to somebody else's; some heal, some
            // refuse, none follows.
            let state = format!("{BASE}/state");
            let cases = [
                (
                    "a state folder",
                    format!("mv {state}/temp {state}/t; ln -s /opt/victim/d {state}/temp"),
                    None,
                ),
                (
                    "the user folder",
                    format!("mv {state}/user {state}/u; ln -s /opt/victim/d {state}/user"),
                    None,
                ),
                (
                    "a folder below it",
                    format!(
                        "mv {state}/user/default {state}/user/d; ln -s /opt/victim/d \
                         {state}/user/default"
                    ),
                    None,
                ),
                (
                    "the link in the home",
                    "ln -sfn /opt/victim/new ~/ComfyUI".to_string(),
                    None,
                ),
                (
                    "what a node writes",
                    format!(
                        "mv {state}/nodes/hello {state}/nodes/h; ln -s /opt/victim/d \
                         {state}/nodes/hello"
                    ),
                    None,
                ),
                (
                    "the seed's own name",
                    format!(
                        "rm -r {state}/nodes/hello/data; ln -s /opt/victim/d \
                         {state}/nodes/hello/.data.comfy-seed"
                    ),
                    None,
                ),
                (
                    "a link in a share",
                    format!(
                        "ln -s /opt/victim/d {OUTPUT}/d; ln -s /opt/victim/f {OUTPUT}/f; ln -s \
                         /opt/alice {OUTPUT}/a"
                    ),
                    None,
                ),
                (
                    "a model's folder",
                    "ln -s /opt/victim/d /opt/ai/models/loras".to_string(),
                    None,
                ),
            ];
            for (what, script, why) in cases {
                super::old_state(m);
                sandbox(m, &format!("{script} >&2"));
                // Something for the steps to do: modes of the share, and the seed of a new
                // generation.
                m.sh(&format!("chmod 755 {OUTPUT}; rm -f {BASE}/current"));
                let out = apply(m);
                match why {
                    Some(why) => refused(&out, why),
                    None => ok(&out),
                }
                assert_eq!(victims(m), before, "{what}: {}", said(&out));
                m.sh(&format!("rm -rf {state}/nodes/hello {state}/nodes/h"));
                ok(&apply(m));
            }
            // A model that is put where a link leads elsewhere.
            m.sh("head -c 100000 /dev/urandom > /home/alice/m.bin; chown alice /home/alice/m.bin");
            m.manifest(&format!(
                "{}[models.\"loras/m.bin\"]\nsource = \"file:~/m.bin\"\n",
                super::manifest()
            ));
            m.lock();
            refused(&apply(m), "loras/m.bin");
            assert_eq!(victims(m), before);
            m.sh("rm /opt/ai/models/loras");
            sandbox(
                m,
                "mkdir /opt/ai/models/loras; ln -s /opt/victim/f /opt/ai/models/loras/m.bin",
            );
            refused(&apply(m), "loras/m.bin");
            assert_eq!(m.alice(&["verify"]).status.code(), Some(2));
            assert_eq!(victims(m), before);
            ok(&m.root(&["destroy", "--yes"]));
            assert_eq!(victims(m), before);
        },
    );
}
