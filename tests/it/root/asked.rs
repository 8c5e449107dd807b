//! What comfy.toml may ask of root: a place, an account, a folder or a file that is somebody else's is refused, however it is written.

use super::machine::{BASE, MANIFEST, Machine, ok, private, said};

/// What `plan` says where it ends with 1, or shows something that is blocked.
fn refused(m: &Machine, words: &str) {
    let text = said(&m.alice(&["plan"]));
    assert!(text.contains(words), "not `{words}` in:\n{text}");
    let out = m.root(&["apply", "--yes"]);
    assert!(out.status.code() == Some(1) && said(&out).contains(words), "not `{words}` in:\n{}", said(&out));
}

#[test]
fn a_view_is_never_where_something_is_run_from() {
    private("asked::a_view_is_never_where_something_is_run_from", |m| {
        // The content of the view would be a unit, a script of every login, a program: third-party bytes that root or alice runs.
        m.sh("mkdir -p /etc/profile.d /etc/systemd/system; install -d -o alice -g alice /srv/alice /home/alice/far; install -d -o root /srv/roots; chown alice:alice /home/alice
              install -d -o alice -g alice -m 775 /srv/open; groupadd team; usermod -aG team mallory; chgrp team /srv/open
              cd /home/alice; ln -s /etc/profile.d etc; ln -s .config settings; ln -s /srv/alice near; mkdir .config; chown -hR alice: etc settings near .config");
        m.lock();
        let before = m.sh("find /etc /srv /home -path /home/alice/dot -prune -o -path '*/.cache' -prune -o -printf '%p %U %l\\n' | sort");
        let view = |path: &str| m.manifest(&MANIFEST.replace("~/ComfyUI", path));
        for (path, words) in [
            ("/etc/systemd/system/cron.service.d", "comfy.toml:6:1: view /etc/systemd/system/cron.service.d belongs to the system"),
            ("/usr/local/bin/x", "belongs to the system"),
            ("~/.config/fish/conf.d", "comfy.toml:6:1: view /home/alice/.config/fish/conf.d lies in a hidden folder of your home"),
            ("/home/alice/.local/bin", "lies in a hidden folder of your home"),
            ("~/repo/.git/hooks", "lies in a hidden folder of your home"),
            ("~/bin", "is a folder where shells look for programs"),
            ("~/etc/x.sh", "/home/alice/etc/x.sh leads to /etc/profile.d/x.sh, which belongs to the system"),
            ("~/settings/fish", "/home/alice/settings/fish leads to /home/alice/.config/fish, which lies in a hidden folder"),
            ("/srv/roots/view", "/srv/roots/view, and the folder /srv/roots is root's, not alice's"),
            ("/srv/new/view", "the folder /srv is root's, not alice's"),
            ("/home/mallory/view", "the folder /home/mallory is mallory's, not alice's"),
            ("/srv/open/view", "the folder /srv/open can be written by others"),
        ] {
            view(path);
            refused(m, words);
        }
        assert_eq!(m.sh("find /etc /srv /home -path /home/alice/dot -prune -o -path '*/.cache' -prune -o -printf '%p %U %l\\n' | sort"), before);
        // Behind a link of alice's to a folder of alice's it is what she wants.
        view("~/near/deep/ComfyUI");
        m.apply();
        m.clean();
        assert_eq!(
            m.sh("stat -c '%U %N' /srv/alice/deep/ComfyUI; stat -c %U /srv/alice/deep"),
            format!("alice '/srv/alice/deep/ComfyUI' -> '{BASE}/current/ComfyUI'\nalice")
        );
        view("~/ComfyUI");
        m.apply();
        m.clean();
        assert_eq!(m.sh("ls -A /srv/alice/deep; stat -c %U /home/alice/ComfyUI"), "alice");
        ok(&m.root(&["destroy", "--yes"]));
        assert_eq!(m.sh("ls /home/alice/ComfyUI 2> /dev/null || true"), "");
    });
}
