//! `share.NAME`: a folder that both accounts use. A whole tree is one resource, which says how many
//! entries are off.

use std::path::{Path, PathBuf};

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, RealPaths, Resource, attrs};
use crate::desired::{Desired, DesiredShare};
use crate::ids::Address;
use crate::manifest::{IsolationMode, ShareRole};
use crate::plan::ids::AccountIds;
use crate::plan::inventory::SharedFolder;
use crate::plan::observed::{FileType, Seen, ShareSpec, ShareState};
use crate::plan::{Attrs, Step};
use rayon::prelude::*;

/// A share of comfy.toml and what was observed of it.
pub(crate) struct ShareObservation<'a> {
    pub wish: &'a DesiredShare,
    pub seen: Seen<ShareUse>,
}

/// Whether the owner can share a folder.
pub(crate) enum ShareUse {
    /// No: a person has to move something first.
    Refused { path: PathBuf, why: String },
    /// Yes; `None` if the folder does not exist yet.
    Usable(ShareSpec, Option<ShareState>),
}

/// Walks all shares in parallel, because that is slow.
pub(crate) fn observe<'a>(i: &Instance<'a>, real: &RealPaths) -> Vec<ShareObservation<'a>> {
    let d = i.d;
    d.shares
        .par_iter()
        .zip(&real.shares)
        .map(|(wish, path)| ShareObservation {
            wish,
            seen: observe_one(i, wish, path.clone(), &real.home),
        })
        .collect()
}

fn observe_one(
    i: &Instance,
    wish: &DesiredShare,
    path: Seen<PathBuf>,
    home: &Seen<PathBuf>,
) -> Seen<ShareUse> {
    let spec = ShareSpec {
        path: path?,
        ..share_spec(i.d, i.ids, wish)
    };
    let seen = i.look.check_share(&spec, i.d.has_models(&wish.name))?;
    let home = home.as_ref().map_err(Clone::clone)?;
    // The disk says which folder a path means, whatever its letters.
    if let Some(met) = i.d.overlap_of_share(&wish.name, home, &spec.path) {
        let why = if spec.path == wish.path {
            format!(
                "{} overlaps {met}: share another folder",
                wish.path.display()
            )
        } else {
            format!(
                "{} leads to {}, which overlaps {met}: point the link elsewhere",
                wish.path.display(),
                spec.path.display()
            )
        };
        let path = wish.path.clone();
        return Ok(ShareUse::Refused { path, why });
    }
    let mut refusal = None;
    if spec.modes {
        refusal = i.look.why_exposed(&spec.path, spec.owner)?;
    }
    // With accounts of its own, root creates it.
    if seen.is_none()
        && wish.manage
        && !spec.modes
        && let Some(above) = i.look.why_uncreatable(&spec.path)?
    {
        refusal = Some(format!(
            "you may not create anything in {}: below [shares.{}] write `path = \"~/comfy/{}\"`, or \
             create {} first",
            above.display(),
            wish.name,
            wish.name,
            spec.path.display()
        ));
    }
    if spec.modes
        && wish.manage
        && let Some(volume) = i.look.unowned_volume(&spec.path)?
    {
        let volume = volume.display();
        refusal = Some(format!(
            "the volume {volume} ignores who owns its files, so modes would protect nothing: run `sudo \
             diskutil enableOwnership '{volume}'`; exFAT, FAT and NTFS know no owners: put the share on \
             an APFS volume"
        ));
    }
    if let (None, Some(s), true) = (&refusal, &seen, wish.manage) {
        refusal = foreign_owner(i, &spec, s);
    }
    Ok(match refusal {
        Some(why) => ShareUse::Refused {
            path: spec.path,
            why,
        },
        None => ShareUse::Usable(spec, seen),
    })
}

pub(crate) fn plan_shares(o: &Observed, b: &mut PlanBuilder) {
    for share in &o.shares {
        plan_share(o, b, share);
    }
    prune_shares(o, b);
}

/// The share as data that can be checked and repaired.
pub(crate) fn share_spec(d: &Desired, ids: AccountIds, wish: &DesiredShare) -> ShareSpec {
    ShareSpec {
        name: wish.name.clone(),
        path: wish.path.clone(),
        access: wish.access,
        requires_mount: wish.requires_mount.clone(),
        owner: ids.owner,
        owner_gid: ids.owner_gid,
        sandbox: ids.sandbox,
        gid: ids.shared,
        setgid: !d.platform.os.is_macos(),
        modes: d.isolation == IsolationMode::Account,
        manage: wish.manage,
    }
}

fn plan_share(o: &Observed, b: &mut PlanBuilder, share: &ShareObservation) {
    let wish = share.wish;
    let address = Address::Share(wish.name.clone());
    let Some(state) = b.observed(&address, &share.seen) else {
        return;
    };
    let (spec, seen) = match state {
        ShareUse::Refused { path, why } => {
            let want = attrs([("path", path.display().to_string())]);
            b.add(Resource::new(address, Some(want), None).block(why.clone()));
            return;
        }
        ShareUse::Usable(spec, seen) => (spec, seen),
    };
    warn_of_missing_folders(o, b, wish, spec, seen.as_ref());
    warn_of_protected_folder(o, b, wish, spec);
    let want = wanted(o, wish, spec);
    let (have, steps) = match seen {
        None => (None, vec![make(spec, true, spec.owner_gid, 0o755)]),
        Some(s) => {
            b.warnings.extend(
                s.warnings
                    .iter()
                    .map(|w| format!("share {}: {w}", wish.name)),
            );
            let (is, steps) = compared(o, spec, s, &want);
            (Some(is), steps)
        }
    };
    if !wish.manage {
        if have.as_ref() != Some(&want) {
            let what = have.map_or("does not exist".to_string(), |h| describe_drift(&want, &h));
            b.warnings.push(format!(
                "share {}: {what}; `manage = false`, so comfy does not touch it",
                wish.name
            ));
        }
        b.add(Resource::new(address, Some(want.clone()), Some(want)));
        return;
    }
    let needs = if spec.modes {
        vec![
            Address::Group(o.d.group.clone()),
            Address::User(o.d.sandbox.clone()),
            Address::Member(o.d.sandbox.clone()),
            Address::Member(o.d.owner.name.clone()),
        ]
    } else {
        Vec::new()
    };
    let examples = seen.as_ref().map(|s| &s.examples[..]).unwrap_or_default();
    let reason = (!examples.is_empty()).then(|| format!("for example {}", examples.join(", ")));
    b.add(
        Resource::new(address, Some(want), have)
            .steps(steps)
            .needs(needs)
            .reason(reason),
    );
}

/// ComfyUI skips a folder that does not exist, and does not report it.
fn warn_of_missing_folders(
    o: &Observed,
    b: &mut PlanBuilder,
    wish: &DesiredShare,
    spec: &ShareSpec,
    seen: Option<&ShareState>,
) {
    let ShareRole::Models(kinds) = &wish.role else {
        return;
    };
    for folder in kinds.values().flatten().filter(|f| *f != ".") {
        let node = o.look.read_entry(&spec.path.join(folder));
        if seen.is_some()
            && !matches!(&node, Ok(Some(n)) if n.kind == FileType::Dir)
            && node.is_ok()
        {
            b.warnings.push(format!(
                "share {}: {folder} is not a folder there, so ComfyUI finds no models in it",
                wish.name
            ));
        }
    }
}

/// Folders of a home that macOS lets a program read only after its user has allowed it (TCC).
const ASKED_FOR: [&str; 3] = ["Documents", "Desktop", "Downloads"];

/// On macOS a mode is not all that decides: what a terminal starts has the terminal's permissions, and
/// what launchd starts has none.
fn warn_of_protected_folder(
    o: &Observed,
    b: &mut PlanBuilder,
    wish: &DesiredShare,
    spec: &ShareSpec,
) {
    let (os, home) = (o.d.platform.os, &o.d.owner.home);
    if !os.is_macos() {
        return;
    }
    let asked = ASKED_FOR
        .iter()
        .map(|name| home.join(name))
        .find(|f| os.lies_in(&spec.path, f));
    if let Some(folder) = &asked {
        b.warnings.push(format!(
            "share {}: macOS protects {}, and asks whether your terminal may read it when ComfyUI \
             first does; a folder elsewhere, such as /Users/Shared/comfy, needs no permission",
            wish.name,
            folder.display()
        ));
    }
    if o.d.run.boot && (asked.is_some() || os.lies_in(&spec.path, Path::new("/Volumes"))) {
        b.warnings.push(format!(
            "share {}: what launchd starts may not read {} until you allow it: System Settings > \
             Privacy & Security > Full Disk Access, add {}",
            wish.name,
            spec.path.display(),
            o.d.paths.launcher_program().display()
        ));
    }
}

fn make(spec: &ShareSpec, created: bool, was_gid: u32, was_mode: u32) -> Step {
    Step::MakeShare {
        spec: Box::new(spec.clone()),
        created,
        was_gid,
        was_mode,
    }
}

fn wanted(i: &Instance, wish: &DesiredShare, spec: &ShareSpec) -> Attrs {
    let mut want = attrs([("path", spec.path.display().to_string())]);
    if spec.modes {
        want.extend(attrs([
            ("access", format!("{:?}", wish.access).to_lowercase()),
            ("owner", i.d.owner.name.clone()),
            ("group", i.d.group.clone()),
            ("mode", format!("{:04o}", spec.root_mode())),
            ("entries", "as they should be".into()),
        ]));
    }
    want
}

/// Adds the state of a share that exists, and the steps that repair it.
fn compared(i: &Instance, spec: &ShareSpec, s: &ShareState, want: &Attrs) -> (Attrs, Vec<Step>) {
    let (mut is, mut steps) = (want.clone(), Vec::new());
    if !spec.modes {
        return (is, steps);
    }
    let group = if s.gid == spec.gid {
        i.d.group.clone()
    } else {
        i.look.group_name(s.gid)
    };
    let owner = if s.uid == spec.owner {
        i.d.owner.name.clone()
    } else {
        i.look.user_name(s.uid)
    };
    is.extend(attrs([
        ("owner", owner),
        ("group", group),
        ("mode", format!("{:04o}", s.mode)),
    ]));
    if s.uid != spec.owner || s.gid != spec.gid || s.mode != spec.root_mode() {
        steps.push(make(spec, false, s.gid, s.mode));
        // The names may be equal although the ids differ.
        if is == *want {
            is.insert("group".into(), s.gid.to_string());
        }
    }
    if !s.off.is_empty() {
        let off: Vec<String> = s
            .off
            .iter()
            .map(|(what, n)| count_phrase(*n, what))
            .collect();
        is.insert("entries".into(), off.join("; "));
        steps.push(Step::RepairShare {
            spec: Box::new(spec.clone()),
        });
    }
    (is, steps)
}

/// Returns why the owner cannot share a folder. A folder that root owns is accepted if it is empty:
/// what root keeps in it is only root's to share.
fn foreign_owner(i: &Instance, spec: &ShareSpec, s: &ShareState) -> Option<String> {
    if !spec.modes || s.uid == spec.owner || (s.uid == 0 && s.entries == 0) {
        return None;
    }
    let (path, owner) = (spec.path.display(), &i.d.owner.name);
    let holds = format!(
        "belongs to {} and holds {}",
        i.look.user_name(s.uid),
        crate::text::count_of(s.entries, "entry")
    );
    Some(format!(
        "{path} {holds}: comfy does not take it over; check it, and if it is yours, run: sudo \
         chown {owner} '{path}'"
    ))
}

/// `37 files have group staff` from `files have group staff`; a count of one takes the singular.
fn count_phrase(n: usize, what: &str) -> String {
    if n != 1 {
        return format!("{n} {what}");
    }
    let one = what
        .replacen("files have", "file has", 1)
        .replacen("folders have", "folder has", 1)
        .replacen("files lack", "file lacks", 1)
        .replacen("folders lack", "folder lacks", 1);
    let one = one.replacen(
        "files of the sandbox user are",
        "file of the sandbox user is",
        1,
    );
    format!(
        "1 {}",
        one.replacen("files let", "file lets", 1)
            .replacen("folders let", "folder lets", 1)
    )
}

fn describe_drift(want: &Attrs, have: &Attrs) -> String {
    want.iter()
        .filter_map(|(k, w)| {
            have.get(k)
                .filter(|h| *h != w)
                .map(|h| format!("{k} is {h}, not {w}"))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// Releases a share that was removed from comfy.toml or moved: it keeps its content and loses only
/// what comfy set on it.
fn prune_shares(o: &Observed, b: &mut PlanBuilder) {
    // While one path is unknown, none is known to be abandoned.
    let Ok(now) = o
        .real
        .shares
        .iter()
        .map(Seen::as_ref)
        .collect::<Result<Vec<_>, _>>()
    else {
        return;
    };
    let gone = o.inventory.shares.iter().filter(|(p, _)| !now.contains(p));
    for (path, s) in gone {
        let address = if o.d.shares.iter().any(|w| w.name == s.name) {
            Address::Share(format!("{}.{}", s.name, path.display()))
        } else {
            Address::Share(s.name.clone())
        };
        b.add(released(o, address, path, s).reason(Some(RELEASED.into())));
    }
}

const RELEASED: &str = "its files stay; only the group that comfy set is removed";

/// Releases every share that comfy has put a group on.
pub(crate) fn destroy(i: &Instance, _: &Removal, b: &mut PlanBuilder) {
    if i.d.isolation == IsolationMode::None {
        return;
    }
    for (path, s) in &i.inventory.shares {
        let share = released(i, Address::Share(s.name.clone()), path, s);
        b.add(share.reason(Some(RELEASED.into())));
    }
}

fn released(i: &Instance, address: Address, path: &Path, s: &SharedFolder) -> Resource {
    let step = Step::ReleaseShare {
        name: s.name.clone(),
        path: path.into(),
        requires_mount: s.requires_mount.clone(),
        owner: i.ids.owner,
        from_gid: s.group,
        to_gid: s.gid,
        mode: s.mode,
    };
    Resource::removed(address, attrs([("path", path.display().to_string())]), step)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::manifest::platforms::OperatingSystem;
    use crate::testing::{Locked, MemoryHost, desired};

    const SHARE: &str =
        "[shares.out]\npath = \"/srv/ai/out\"\nmount = \"output\"\naccess = \"write\"\n";

    #[test]
    fn a_mac_s_volume_that_ignores_owners_holds_no_share() {
        let mac = Locked {
            os: OperatingSystem::MacOs,
            ..Locked::default()
        };
        let share = SHARE.replace("/srv/ai", "/Volumes/ai");
        let (host, d) = (MemoryHost::fresh(), desired(&share, &mac));
        host.with(|s| s.unowned = vec!["/Volumes/ai".into()]);
        let everything = crate::plan::select::ResourceSelection::default();
        let plan = crate::kinds::plan(&d, &host, &everything).unwrap();
        let blocked = plan
            .changes
            .iter()
            .find(|c| c.address.to_string() == "share.out");
        insta::assert_snapshot!(blocked.unwrap().reason.as_ref().unwrap(), @"the volume /Volumes/ai ignores who owns its files, so modes would protect nothing: run `sudo diskutil enableOwnership '/Volumes/ai'`; exFAT, FAT and NTFS know no owners: put the share on an APFS volume");
    }

    #[test]
    fn a_share_below_a_folder_that_macos_protects_is_told() {
        let mac = Locked {
            os: OperatingSystem::MacOs,
            ..Locked::default()
        };
        let share = SHARE.replace("/srv/ai", "/home/alice/documents");
        let d = desired(&format!("{share}[run]\nboot = true\n"), &mac);
        let everything = crate::plan::select::ResourceSelection::default();
        let plan = crate::kinds::plan(&d, &MemoryHost::fresh(), &everything).unwrap();
        let told: Vec<_> = plan
            .warnings
            .iter()
            .filter(|w| w.contains("share out"))
            .collect();
        insta::assert_debug_snapshot!(told, @r#"
        [
            "share out: macOS protects /home/alice/Documents, and asks whether your terminal may read it when ComfyUI first does; a folder elsewhere, such as /Users/Shared/comfy, needs no permission",
            "share out: what launchd starts may not read /home/alice/documents/out until you allow it: System Settings > Privacy & Security > Full Disk Access, add /opt/comfy/comfyui_sandbox/bin/comfy",
        ]
        "#);
    }

    #[test]
    fn a_share_is_made_repaired_and_released_and_its_content_stays() {
        let (host, d) = (MemoryHost::fresh(), desired(SHARE, &Locked::default()));
        assert_eq!(
            host.differences(&d, "share"),
            ["create share.out: make_share"]
        );
        host.apply(&d);
        assert_eq!(host.differences(&d, "share"), [""; 0]);
        let folder = std::path::Path::new("/srv/ai/out");
        host.with(|s| {
            s.nodes
                .insert(folder.join("a"), crate::testing::dir(1000, 1000, 0o700))
        });
        assert_eq!(
            host.differences(&d, "share"),
            ["update share.out: mend_share"]
        );
        let without = desired("", &Locked::default());
        assert_eq!(
            host.differences(&without, "share"),
            ["delete share.out: release_share"]
        );
        assert_eq!(
            host.removals(&d, "share"),
            ["delete share.out: release_share"]
        );
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_taken_over() {
        let (host, d) = (MemoryHost::fresh(), desired(SHARE, &Locked::default()));
        host.with(|s| {
            s.nodes
                .insert("/srv/ai".into(), crate::testing::dir(0, 0, 0o755));
            s.nodes
                .insert("/srv/ai/out".into(), crate::testing::dir(77, 77, 0o755));
        });
        assert_eq!(host.differences(&d, "share"), ["blocked share.out: "]);
    }
}
