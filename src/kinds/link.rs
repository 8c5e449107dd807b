//! `link.NAME`: the owner's view of the code, the link in the sandbox user's home, and mounts below
//! `user/`.

use std::path::{Path, PathBuf};

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use crate::desired::VIEW_HINT;
use crate::ids::Address;
use crate::manifest::IsolationMode;
use crate::plan::Step;
use crate::plan::observed::FileType;

struct DesiredLink {
    address: Address,
    path: PathBuf,
    target: PathBuf,
    uid: u32,
    gid: u32,
    needs: Vec<Address>,
}

pub(crate) fn plan_links(o: &Observed, b: &mut PlanBuilder) {
    let (d, ids) = (o.d, o.ids);
    let code = d.paths.current_link().join("ComfyUI");
    let mut wishes = Vec::new();
    let placed = view_path(o, b);
    if let Some(Ok(path)) = &placed {
        wishes.push(DesiredLink {
            address: view_address(),
            path: path.clone(),
            target: code.clone(),
            uid: ids.owner,
            gid: ids.owner_gid,
            needs: Vec::new(),
        });
    }
    if let Some(home) = &d.paths.home {
        wishes.push(DesiredLink {
            address: Address::Link("home".into()),
            path: home.join("ComfyUI"),
            target: code,
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            needs: vec![Address::Dir("home".into())],
        });
    }
    for s in d
        .shares
        .iter()
        .filter(|s| s.role.mount_path().is_some_and(|m| m.starts_with("user/")))
    {
        wishes.push(DesiredLink {
            address: Address::Link(s.name.clone()),
            path: d
                .paths
                .state_dir()
                .join(s.role.mount_path().unwrap_or_default()),
            target: s.path.clone(),
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            needs: vec![Address::Dir("state".into()), Address::Share(s.name.clone())],
        });
    }
    let paths: Vec<PathBuf> = wishes
        .iter()
        .map(|w| w.path.clone())
        .chain(d.view.clone())
        .collect();
    for w in wishes {
        plan_link(o, b, w);
    }
    let gone: Vec<_> = o
        .inventory
        .links
        .iter()
        .filter(|(p, _)| !paths.contains(p))
        .map(|(p, t)| (p.clone(), t.clone()))
        .collect();
    for (path, target) in gone {
        let seen = o.look.read_entry(&path);
        let address = Address::Link(path.display().to_string());
        let Some(node) = b.seen(&address, seen) else {
            continue;
        };
        if node.is_some_and(|n| n.target.as_ref() == Some(&target)) {
            let mut r = removed(&path, &target);
            r.have
                .iter_mut()
                .for_each(|a| drop(a.insert("path".into(), path.display().to_string())));
            b.add(r);
        }
    }
}

fn view_address() -> Address {
    Address::Link("view".into())
}

/// Returns where the owner's view is made: behind the owner's own links, and never among programs,
/// keys or services. `Err`: why not, for the plan.
fn view_path(o: &Observed, b: &mut PlanBuilder) -> Option<Result<PathBuf, ()>> {
    let d = o.d;
    let (written, owner) = (d.view.as_ref()?, &d.owner);
    let refused = |o: &Observed, b: &mut PlanBuilder, why: String| {
        let place = o.d.place_of_key(&["comfyui", "view"]);
        b.add(
            Resource::new(
                view_address(),
                Some(attrs([("path", written.display().to_string())])),
                None,
            )
            .block(format!("{place}: {why}; {VIEW_HINT}")),
        );
        Some(Err(()))
    };
    let (above, name) = (written.parent()?, written.file_name()?);
    let real = o
        .look
        .real_path(above, owner.uid)
        .and_then(|above| Ok((above.join(name), o.look.real_path(&owner.home, owner.uid)?)));
    let Some((real, home)) = b.seen(&view_address(), real) else {
        return Some(Err(()));
    };
    let leads = if real == *written {
        String::new()
    } else {
        format!("{} leads to ", written.display())
    };
    if let Some(why) = d.overlap_of_view(&home, &real) {
        return refused(o, b, format!("{leads}{}, which {why}", real.display()));
    }
    if d.isolation == IsolationMode::None {
        return Some(Ok(real));
    }
    // Root makes it: in a folder that is the owner's, or below the home.
    for folder in real.ancestors().skip(1) {
        let node = o.look.read_entry(folder);
        let Some(node) = b.seen(&view_address(), node) else {
            return Some(Err(()));
        };
        let Some(node) = node else { continue };
        if node.uid != owner.uid && !(node.uid == 0 && folder.starts_with(&home)) {
            let whose = o.look.user_name(node.uid);
            return refused(
                o,
                b,
                format!(
                    "{leads}{}, and the folder {} is {whose}'s, not {}'s",
                    real.display(),
                    folder.display(),
                    owner.name
                ),
            );
        }
        break;
    }
    let exposed = o.look.why_exposed(&real, owner.uid);
    match b.seen(&view_address(), exposed) {
        Some(None) => Some(Ok(real)),
        Some(Some(why)) => refused(o, b, why),
        None => Some(Err(())),
    }
}

fn plan_link(o: &Observed, b: &mut PlanBuilder, w: DesiredLink) {
    let seen = o.look.read_entry(&w.path);
    let Some(seen) = b.seen(&w.address, seen) else {
        return;
    };
    let path = w.path.display().to_string();
    let want = attrs([
        ("path", path.clone()),
        ("target", w.target.display().to_string()),
    ]);
    let have = seen.as_ref().map(|n| {
        let target = n
            .target
            .as_ref()
            .map_or("not a link".to_string(), |t| t.display().to_string());
        attrs([("path", path.clone()), ("target", target)])
    });
    let step = Step::SetLink {
        path: w.path.clone(),
        target: w.target,
        uid: w.uid,
        gid: w.gid,
    };
    let mut r = Resource::new(w.address.clone(), Some(want), have)
        .steps([step])
        .needs(w.needs);
    if let Some(n) = seen
        && n.kind != FileType::Link
    {
        let what = if n.kind == FileType::Dir {
            "a real folder"
        } else {
            "a file"
        };
        r = r.block(format!(
            "{path} is {what}, and comfy needs the path for a link: move it away with `{}mv {path} \
             {path}.old`",
            if w.uid == o.ids.owner { "" } else { "sudo " }
        ));
    }
    b.add(r);
}

/// Removes the links that still lead to the target that comfy gave them.
pub(crate) fn destroy(i: &Instance, _: &Removal, b: &mut PlanBuilder) {
    for (path, target) in &i.inventory.links {
        // What cannot be read may exist; the step itself looks again.
        let seen = i.look.read_entry(path);
        if seen.map_or(true, |n| {
            n.is_some_and(|n| n.target.as_ref() == Some(target))
        }) {
            b.add(removed(path, target));
        }
    }
}

fn removed(path: &Path, target: &Path) -> Resource {
    let step = Step::RemoveLink {
        path: path.into(),
        target: target.into(),
    };
    let have = attrs([("target", target.display().to_string())]);
    Resource::removed(Address::Link(path.display().to_string()), have, step)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn the_view_is_led_right_and_goes_with_the_manifest() {
        let (host, d) = (
            MemoryHost::fresh(),
            desired("view = \"~/view\"\n", &Locked::default()),
        );
        host.apply(&d);
        assert_eq!(host.differences(&d, "link"), [""; 0]);
        let view = PathBuf::from("/home/alice/view");
        host.with(|s| s.nodes.get_mut(&view).unwrap().target = Some("/tmp".into()));
        assert_eq!(host.differences(&d, "link"), ["update link.view: set_link"]);
        // A link that somebody pointed elsewhere no longer belongs to comfy.
        let without = desired("", &Locked::default());
        assert_eq!(host.differences(&without, "link"), [""; 0]);
        host.apply(&d);
        assert_eq!(
            host.differences(&without, "link"),
            ["delete link./home/alice/view: remove_link"]
        );
        assert_eq!(
            host.removals(&d, "link"),
            [
                "delete link./home/alice/view: remove_link",
                "delete link./home/comfyui_sandbox/ComfyUI: remove_link"
            ]
        );
    }
}
