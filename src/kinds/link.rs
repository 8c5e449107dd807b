//! `link.NAME`: the owner's view of the code, the link in the sandbox user's home, and mounts below
//! `user/`.

use std::path::PathBuf;

use crate::desired::VIEW_HINT;
use crate::manifest::IsolationMode;
use crate::plan::Step;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::observed::FileType;

struct DesiredLink {
    address: String,
    path: PathBuf,
    target: PathBuf,
    uid: u32,
    gid: u32,
    needs: Vec<String>,
}

pub fn plan_links(draft: &mut PlanBuilder) {
    let (d, ids) = (draft.d, draft.ids);
    let code = d.paths.current_link().join("ComfyUI");
    let mut wishes = Vec::new();
    let placed = view_path(draft);
    if let Some(Ok(path)) = &placed {
        wishes.push(DesiredLink {
            address: VIEW.into(),
            path: path.clone(),
            target: code.clone(),
            uid: ids.owner,
            gid: ids.owner_gid,
            needs: Vec::new(),
        });
    }
    if let Some(home) = &d.paths.home {
        wishes.push(DesiredLink {
            address: "link.home".into(),
            path: home.join("ComfyUI"),
            target: code,
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            needs: vec!["dir.home".into()],
        });
    }
    for s in d
        .shares
        .iter()
        .filter(|s| s.role.mount_path().is_some_and(|m| m.starts_with("user/")))
    {
        wishes.push(DesiredLink {
            address: format!("link.{}", s.name),
            path: d
                .paths
                .state_dir()
                .join(s.role.mount_path().unwrap_or_default()),
            target: s.path.clone(),
            uid: ids.sandbox,
            gid: ids.sandbox_gid,
            needs: vec!["dir.state".into(), format!("share.{}", s.name)],
        });
    }
    let paths: Vec<PathBuf> = wishes
        .iter()
        .map(|w| w.path.clone())
        .chain(d.view.clone())
        .collect();
    for w in wishes {
        plan_link(draft, w);
    }
    let gone: Vec<_> = draft
        .inventory
        .links
        .iter()
        .filter(|(p, _)| !paths.contains(p))
        .map(|(p, t)| (p.clone(), t.clone()))
        .collect();
    for (path, target) in gone {
        let seen = draft.look.read_entry(&path);
        let address = format!("link.{}", path.display());
        let Some(node) = draft.unwrap_seen(&address, seen) else {
            continue;
        };
        if node.is_some_and(|n| n.target.as_ref() == Some(&target)) {
            let r = PlannedResource::new(
                format!("link.{}", path.display()),
                None,
                Some(attrs([
                    ("path", path.display().to_string()),
                    ("target", target.display().to_string()),
                ])),
            );
            draft.add_resource(r.with_steps([Step::RemoveLink { path, target }]));
        }
    }
}

const VIEW: &str = "link.view";

/// Where the owner's view is made: behind links of the owner's, and never where somebody else's
/// programs, keys or services are. `Err`: the plan says why not.
fn view_path(draft: &mut PlanBuilder) -> Option<Result<PathBuf, ()>> {
    let d = draft.d;
    let (written, owner) = (d.view.as_ref()?, &d.owner);
    let refused = |draft: &mut PlanBuilder, why: String| {
        let place = draft.d.place_of_key(&["comfyui", "view"]);
        draft.add_resource(
            PlannedResource::new(
                VIEW,
                Some(attrs([("path", written.display().to_string())])),
                None,
            )
            .with_block(format!("{place}: {why}; {VIEW_HINT}")),
        );
        Some(Err(()))
    };
    let (above, name) = (written.parent()?, written.file_name()?);
    let real = draft.look.real_path(above, owner.uid).and_then(|above| {
        Ok((
            above.join(name),
            draft.look.real_path(&owner.home, owner.uid)?,
        ))
    });
    let Some((real, home)) = draft.unwrap_seen(VIEW, real) else {
        return Some(Err(()));
    };
    let leads = if real == *written {
        String::new()
    } else {
        format!("{} leads to ", written.display())
    };
    if let Some(why) = d.view_runs_into(&home, &real) {
        return refused(draft, format!("{leads}{}, which {why}", real.display()));
    }
    if d.isolation == IsolationMode::None {
        return Some(Ok(real));
    }
    // Root makes it: in a folder that is the owner's, or below the home.
    for folder in real.ancestors().skip(1) {
        let node = draft.look.read_entry(folder);
        let Some(node) = draft.unwrap_seen(VIEW, node) else {
            return Some(Err(()));
        };
        let Some(node) = node else { continue };
        if node.uid != owner.uid && !(node.uid == 0 && folder.starts_with(&home)) {
            let whose = draft.look.user_name(node.uid);
            return refused(
                draft,
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
    let exposed = draft.look.why_exposed(&real, owner.uid);
    match draft.unwrap_seen(VIEW, exposed) {
        Some(None) => Some(Ok(real)),
        Some(Some(why)) => refused(draft, why),
        None => Some(Err(())),
    }
}

fn plan_link(draft: &mut PlanBuilder, w: DesiredLink) {
    let seen = draft.look.read_entry(&w.path);
    let Some(seen) = draft.unwrap_seen(&w.address, seen) else {
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
    let mut r = PlannedResource::new(&w.address, Some(want), have)
        .with_steps([step])
        .with_needs(w.needs);
    if let Some(n) = seen
        && n.kind != FileType::Link
    {
        let what = if n.kind == FileType::Dir {
            "a real folder"
        } else {
            "a file"
        };
        r = r.with_block(format!(
            "{path} is {what}, and comfy puts a link there: move it away with `{}mv {path} \
             {path}.old`",
            if w.uid == draft.ids.owner {
                ""
            } else {
                "sudo "
            }
        ));
    }
    draft.add_resource(r);
}
