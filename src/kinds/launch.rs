//! `run`: how ComfyUI is launched, kept beside the records so that `comfy run` needs no manifest.

use super::builder::{Instance, Observed, PlanBuilder, RealPaths, Resource, attrs};
use crate::desired::launch::{FORMAT, LaunchSpec};
use crate::ids::Address;
use crate::manifest::{ConfinementPolicy, IsolationMode, LaunchSession};
use crate::plan::observed::{Seen, ShareSpec};
use crate::plan::{Attrs, Step};

/// The wanted launch, and the launch that the last apply wrote.
pub(crate) struct LaunchObservation {
    pub want: LaunchSpec,
    pub have: Seen<Option<LaunchSpec>>,
}

/// Reads the launch that the last apply wrote.
pub(crate) fn observe(i: &Instance, real: &RealPaths) -> LaunchObservation {
    LaunchObservation {
        want: desired_launch(i, real),
        have: i.look.applied_launch(&i.d.paths),
    }
}

pub(crate) fn plan_launch(o: &Observed, b: &mut PlanBuilder) {
    let want = &o.launch.want;
    let Some(have) = b.observed(&Address::Run, &o.launch.have) else {
        return;
    };
    let step = Step::WriteLaunch {
        spec: Box::new(want.clone()),
    };
    let (after, before) = (
        Some(describe_launch(want)),
        have.as_ref().map(describe_launch),
    );
    let mut r = Resource::new(Address::Run, after, before).needs([Address::Dir("records".into())]);
    // The network has resources of its own.
    let same = have.clone().is_some_and(|mut h| {
        if want.account {
            (h.network, h.allow_remote) = (want.network.clone(), want.allow_remote);
        }
        h == *want
    });
    if !same {
        // Ids may differ although every attribute shown is equal.
        if let (Some(h), Some(w)) = (r.have.as_mut(), r.want.as_mut())
            && h == w
        {
            h.insert("accounts".into(), "others".into());
            w.insert("accounts".into(), "as in this plan".into());
        }
        r = r.steps([step]);
    }
    b.add(r);
}

fn desired_launch(i: &Instance, real: &RealPaths) -> LaunchSpec {
    let (d, ids) = (i.d, i.ids);
    let (c, run) = (&d.comfyui, &d.run);
    let mounted = |mount: &str| {
        d.shares
            .iter()
            .find(|s| s.role.mount_path() == Some(mount))
            .map_or_else(|| d.paths.state_dir().join(mount), |s| s.path.clone())
    };
    let shares = d.shares.iter().zip(&real.shares).map(|(wish, real)| {
        let path = real.as_ref().unwrap_or(&wish.path).clone();
        ShareSpec {
            path,
            ..super::share::share_spec(d, ids, wish)
        }
    });
    let shares: Vec<ShareSpec> = shares.collect();
    let written = d.shares.iter().map(|wish| wish.path.clone());
    let links = written
        .zip(shares.iter().map(|s| s.path.clone()))
        .filter(|(written, real)| written != real)
        .collect();
    let account = d.isolation == IsolationMode::Account;
    LaunchSpec {
        format: FORMAT,
        paths: d.paths.clone(),
        account,
        os: d.platform.os,
        owner: ids.owner,
        user: if account { &d.sandbox } else { &d.owner.name }.clone(),
        uid: ids.sandbox,
        gid: ids.sandbox_gid,
        records_gid: d.records_group().map(|_| ids.records_gid),
        listen: c.listen.clone(),
        port: c.port,
        args: c.args.clone(),
        env: run.env.clone(),
        open_files: run.open_files,
        memory_reserve: run.memory_reserve,
        gateway_uid: ids.front,
        network: d.network.clone(),
        allow_remote: c.allow_remote,
        require_confinement: d.policy.confinement == ConfinementPolicy::Required,
        input: mounted("input"),
        output: mounted("output"),
        shares,
        links,
        session: run.session,
    }
}

fn describe_launch(l: &LaunchSpec) -> Attrs {
    let mut a = attrs([
        ("address", l.listen_address()),
        ("as", l.user.clone()),
        ("open_files", l.open_files.to_string()),
    ]);
    if l.memory_reserve > 0 && (l.account || l.os.is_macos()) {
        a.insert(
            "memory_reserve".into(),
            crate::text::format_bytes(l.memory_reserve),
        );
    }
    if l.os.is_macos() && l.session == LaunchSession::Caller {
        a.insert("session".into(), "of whoever starts it".into());
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn how_it_is_launched_is_written_once_and_again_when_it_changes() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        assert_eq!(host.differences(&d, "run"), ["create run: write_launch"]);
        host.apply(&d);
        assert_eq!(host.differences(&d, "run"), [""; 0]);
        let other = desired("[run]\nopen_files = 4096\n", &Locked::default());
        assert_eq!(
            host.differences(&other, "run"),
            ["update run: write_launch"]
        );
    }
}
