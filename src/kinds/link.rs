//! `link.NAME`: the owner's view of the code, the link in the sandbox user's home, and mounts below `user/`.

use std::path::PathBuf;

use crate::plan::Step;
use crate::plan::build::{Draft, Resource, attrs};
use crate::plan::facts::Kind;

struct Wish {
    address: String,
    path: PathBuf,
    target: PathBuf,
    uid: u32,
    gid: u32,
    needs: Vec<String>,
}

pub fn plan(draft: &mut Draft) {
    let (d, ids) = (draft.d, draft.ids);
    let code = d.paths.current().join("ComfyUI");
    let mut wishes = Vec::new();
    if let Some(view) = &d.view {
        wishes.push(Wish { address: "link.view".into(), path: view.clone(), target: code.clone(), uid: ids.owner, gid: ids.owner_gid, needs: Vec::new() });
    }
    if let Some(home) = &d.paths.home {
        wishes.push(Wish {
            address: "link.home".into(),
            path: home.join("ComfyUI"),
            target: code,
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            needs: vec!["dir.home".into()],
        });
    }
    for s in d.shares.iter().filter(|s| s.role.mount().is_some_and(|m| m.starts_with("user/"))) {
        wishes.push(Wish {
            address: format!("link.{}", s.name),
            path: d.paths.state().join(s.role.mount().unwrap_or_default()),
            target: s.path.clone(),
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            needs: vec!["dir.state".into(), format!("share.{}", s.name)],
        });
    }
    let paths: Vec<PathBuf> = wishes.iter().map(|w| w.path.clone()).collect();
    for w in wishes {
        one(draft, w);
    }
    let gone: Vec<_> = draft.inventory.links.iter().filter(|(p, _)| !paths.contains(p)).map(|(p, t)| (p.clone(), t.clone())).collect();
    for (path, target) in gone {
        let seen = draft.look.node(&path);
        let address = format!("link.{}", path.display());
        let Some(node) = draft.seen(&address, seen) else { continue };
        if node.is_some_and(|n| n.target.as_ref() == Some(&target)) {
            let r = Resource::new(
                format!("link.{}", path.display()),
                None,
                Some(attrs([("path", path.display().to_string()), ("target", target.display().to_string())])),
            );
            draft.add(r.steps([Step::RemoveLink { path, target }]));
        }
    }
}

fn one(draft: &mut Draft, w: Wish) {
    let seen = draft.look.node(&w.path);
    let Some(seen) = draft.seen(&w.address, seen) else { return };
    let path = w.path.display().to_string();
    let want = attrs([("path", path.clone()), ("target", w.target.display().to_string())]);
    let have = seen.as_ref().map(|n| {
        let target = n.target.as_ref().map_or("not a link".to_string(), |t| t.display().to_string());
        attrs([("path", path.clone()), ("target", target)])
    });
    let step = Step::SetLink { path: w.path.clone(), target: w.target, uid: w.uid, gid: w.gid };
    let mut r = Resource::new(&w.address, Some(want), have).steps([step]).needs(w.needs);
    if let Some(n) = seen
        && n.kind != Kind::Link
    {
        let what = if n.kind == Kind::Dir { "a real folder" } else { "a file" };
        r = r.block(format!(
            "{path} is {what}, and comfy puts a link there: move it away with `{}mv {path} {path}.old`",
            if w.uid == draft.ids.owner { "" } else { "sudo " }
        ));
    }
    draft.add(r);
}
