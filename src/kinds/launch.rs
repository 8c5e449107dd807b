//! `run`: how ComfyUI is launched, kept beside the records so that `comfy run` needs no manifest.

use crate::desired::ShareWish;
use crate::desired::launch::{FORMAT, LaunchSpec};
use crate::manifest::IsolationMode;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::observed::ShareSpec;
use crate::plan::{Attrs, Step};

pub const ADDRESS: &str = "run";

pub fn plan_launch(draft: &mut PlanBuilder) {
    let want = desired_launch(draft);
    let seen = draft.look.applied_launch(&draft.d.paths);
    let Some(have) = draft.unwrap_seen(ADDRESS, seen) else {
        return;
    };
    let step = Step::WriteLaunch {
        spec: Box::new(want.clone()),
    };
    let mut r = PlannedResource::new(
        ADDRESS,
        Some(describe_launch(&want)),
        have.as_ref().map(describe_launch),
    )
    .with_needs(vec!["dir.records".to_string()]);
    // The network has resources of its own.
    let same = have.clone().is_some_and(|mut h| {
        if want.account {
            (h.network, h.remote) = (want.network.clone(), want.remote);
        }
        h == want
    });
    if !same {
        // A difference in numbers that no attribute shows is one all the same.
        if let (Some(h), Some(w)) = (r.have.as_mut(), r.want.as_mut())
            && h == w
        {
            h.insert("accounts".into(), "others".into());
            w.insert("accounts".into(), "as in this plan".into());
        }
        r = r.with_steps([step]);
    }
    draft.add_resource(r);
}

pub(super) fn desired_launch(draft: &PlanBuilder) -> LaunchSpec {
    let (d, ids) = (draft.d, draft.ids);
    let m = d.launch_settings();
    let (c, run) = (&m.comfyui, &m.run);
    let mounted = |mount: &str| {
        d.shares
            .iter()
            .find(|s| s.role.mount_path() == Some(mount))
            .map_or_else(|| d.paths.state_dir().join(mount), |s| s.path.clone())
    };
    let real = |wish: &ShareWish| {
        draft
            .look
            .real_path(&wish.path, ids.owner)
            .unwrap_or_else(|_| wish.path.clone())
    };
    let shares = d.shares.iter().map(|wish| ShareSpec {
        path: real(wish),
        ..super::share::share_spec(d, ids, wish)
    });
    let links = d
        .shares
        .iter()
        .map(|wish| (wish.path.clone(), real(wish)))
        .filter(|(written, real)| written != real);
    LaunchSpec {
        format: FORMAT,
        paths: d.paths.clone(),
        account: d.isolation == IsolationMode::Account,
        macos: d.platform.macos,
        owner: ids.owner,
        user: if d.isolation == IsolationMode::Account {
            d.sandbox.clone()
        } else {
            d.owner.name.clone()
        },
        uid: ids.sandbox,
        gid: ids.sandbox_gid,
        listen: c.listen.clone(),
        port: c.port,
        args: c.args.clone(),
        env: run.env.clone(),
        open_files: run.open_files,
        reserve: run.memory_reserve,
        front: ids.front,
        network: m.network.clone(),
        remote: c.allow_remote,
        strict: m.policy.confinement == "required",
        input: mounted("input"),
        output: mounted("output"),
        shares: shares.collect(),
        links: links.collect(),
    }
}

fn describe_launch(l: &LaunchSpec) -> Attrs {
    let mut a = attrs([
        ("address", l.listen_address()),
        ("as", l.user.clone()),
        ("open_files", l.open_files.to_string()),
    ]);
    if l.reserve > 0 && (l.account || l.macos) {
        a.insert(
            "memory_reserve".into(),
            crate::text::format_bytes(l.reserve),
        );
    }
    if !l.args.is_empty() {
        a.insert("args".into(), l.args.join(" "));
    }
    for (k, v) in &l.env {
        a.insert(format!("env {k}"), v.clone());
    }
    for s in &l.shares {
        a.insert(format!("share {}", s.name), s.path.display().to_string());
    }
    a
}
