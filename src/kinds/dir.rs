//! `dir.NAME`: comfy's own folders, sealed ones and the sandbox user's.

use std::path::{Path, PathBuf};

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use crate::ids::Address;
use crate::manifest::IsolationMode;
use crate::plan::observed::{FileType, FsEntry, UnknownState};
use crate::plan::step::SearchingUser;
use crate::plan::{Attrs, Step};

struct DesiredDir {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
    passer: Option<SearchingUser>,
}

pub(crate) fn plan_dirs(o: &Observed, b: &mut PlanBuilder) {
    let (d, ids) = (o.d, o.ids);
    let p = &d.paths;
    let sealed = |path: PathBuf, mode| DesiredDir {
        path,
        uid: ids.seal,
        gid: ids.seal_gid,
        mode,
        passer: None,
    };
    let account = d.isolation == IsolationMode::Account;
    // The owner may pass, because a plan reads what is in there; nobody else may.
    let passer = || {
        account.then(|| SearchingUser {
            name: d.owner.name.clone(),
            uid: ids.owner,
        })
    };
    // With an entry beside it a mode shows the mask in the group's place (acl(5)); the group is the
    // sandbox user's alone.
    let closed = if account { 0o710 } else { 0o700 };
    let own = |path: PathBuf| DesiredDir {
        path,
        uid: ids.sandbox,
        gid: ids.sandbox_gid,
        mode: closed,
        passer: passer(),
    };
    let inner = |path: PathBuf| DesiredDir {
        path,
        uid: ids.sandbox,
        gid: ids.sandbox_gid,
        mode: 0o751,
        passer: None,
    };
    let private = |open: u32, closed: u32| if account { closed } else { open };
    if account {
        // The prefix itself and the instance's folder too: what somebody else made there first is
        // not taken over.
        let exposed = o.look.why_exposed(&p.generations_dir(), ids.owner);
        let Some(exposed) = b.seen(&Address::Dir("instance".into()), exposed) else {
            return;
        };
        if let Some(why) = exposed {
            let why = format!("{why}; or remove host.prefix to use /opt/comfy");
            let want = attrs([("path", p.prefix.display().to_string())]);
            b.add(Resource::new(Address::Dir("instance".into()), Some(want), None).block(why));
            return;
        }
    }
    plan_dir(
        o,
        b,
        Address::Dir("instance".into()),
        vec![
            sealed(p.prefix.clone(), 0o755),
            sealed(p.base.clone(), 0o755),
            sealed(p.generations_dir(), 0o755),
            sealed(p.venvs_dir(), 0o755),
            sealed(p.staging_dir(), private(0o700, 0o711)),
            sealed(p.trash_dir(), 0o700),
            sealed(p.quarantine_dir(), 0o700),
        ],
        false,
    );
    // Readable by the owner, not by the sandbox.
    let records = |path: PathBuf| DesiredDir {
        path,
        uid: ids.seal,
        gid: ids.records_gid,
        mode: private(0o700, 0o750),
        passer: None,
    };
    let mut folders = Vec::new();
    if account && let Some(parent) = p.records.parent() {
        folders.push(sealed(parent.to_path_buf(), 0o755));
    }
    folders.extend([
        records(p.records.clone()),
        records(p.tree_listings_dir()),
        records(p.receipts_dir()),
    ]);
    plan_dir(o, b, Address::Dir("records".into()), folders, false);
    if let Some(home) = &p.home {
        plan_dir(
            o,
            b,
            Address::Dir("home".into()),
            vec![own(home.clone())],
            true,
        );
    }
    warn_moved_prefix(o, b);
    // Root's, so that nothing in it can be renamed.
    let mut state = vec![DesiredDir {
        path: p.state_dir(),
        uid: ids.seal,
        gid: ids.sandbox_gid,
        mode: closed,
        passer: passer(),
    }];
    state.extend(d.state_children().into_iter().map(own));
    state.extend(d.state_folders().into_iter().map(inner));
    plan_dir(o, b, Address::Dir("state".into()), state, true);
}

/// With another `host.prefix` comfy starts over in the new folder, and no longer manages the old
/// one. Under isolation "none" the records are in it too, so it is unmanaged at once.
fn warn_moved_prefix(o: &Observed, b: &mut PlanBuilder) {
    let state = o
        .inventory
        .applied
        .get("dir.state")
        .and_then(|a| a.keys().next());
    let Some(old) = state
        .and_then(|s| Path::new(s).parent())
        .filter(|old| *old != o.d.paths.base)
    else {
        return;
    };
    if !matches!(o.look.read_entry(old), Ok(None)) {
        let (old, new) = (old.display(), o.d.paths.base.display());
        b.warnings.push(format!(
            "host.prefix has changed: {new} is created, and {old} stays as it is, with what \
             nodes have written in {old}/state. Copy from there what you need, and remove it; or \
             revert the change of host.prefix"
        ));
    }
}

fn plan_dir(
    o: &Observed,
    b: &mut PlanBuilder,
    address: Address,
    wishes: Vec<DesiredDir>,
    sandbox: bool,
) {
    let (mut want, mut have, mut steps, mut any) = (Attrs::new(), Attrs::new(), Vec::new(), false);
    for w in wishes {
        let seen = o.look.read_entry(&w.path);
        let seen = match seen {
            // Below a folder that does not exist yet, or that is not a folder, there is nothing.
            Err(u) => {
                b.changes
                    .push(crate::plan::change::unknown_change(address, &u));
                return;
            }
            Ok(n) => n,
        };
        let key = w.path.display().to_string();
        let name = |id: u32, user: bool| name_of(o, id, user);
        let passes = |p: &SearchingUser| {
            let seen = o.look.search_permission(&w.path, &p.name, p.uid, &[])?;
            Ok::<_, UnknownState>(seen.is_some_and(|s| s.entry && s.passes))
        };
        let folder = seen.as_ref().is_some_and(|n| n.kind == FileType::Dir);
        let entry = match w.passer.as_ref().filter(|_| folder).map(passes).transpose() {
            Ok(entry) => entry.unwrap_or(w.passer.is_none()),
            Err(u) => {
                b.changes
                    .push(crate::plan::change::unknown_change(address, &u));
                return;
            }
        };
        let may_pass = |is: bool| {
            w.passer
                .as_ref()
                .filter(|_| is)
                .map_or(String::new(), |p| format!(", {} passes", p.name))
        };
        let wanted = format!(
            "{}:{} {:04o}{}",
            name(w.uid, true),
            name(w.gid, false),
            w.mode,
            may_pass(true)
        );
        if let Some(n) = &seen {
            any = true;
            let is = match n.kind {
                FileType::Dir => format!(
                    "{}:{} {:04o}{}",
                    name(n.uid, true),
                    name(n.gid, false),
                    n.mode,
                    may_pass(entry)
                ),
                FileType::Link => "a link".to_string(),
                _ => "not a folder".to_string(),
            };
            have.insert(key.clone(), is);
        }
        if !entry || !is_as_desired(seen.as_ref(), &w) {
            steps.push(Step::MakeDir {
                path: w.path,
                uid: w.uid,
                gid: w.gid,
                mode: w.mode,
                passer: w.passer,
            });
        }
        want.insert(key, wanted);
    }
    // Names of ids that the plan creates are not known yet; what counts is whether a step is
    // needed.
    let have = if steps.is_empty() {
        Some(want.clone())
    } else {
        any.then_some(have)
    };
    let needs: Vec<Address> = if sandbox && o.d.isolation == IsolationMode::Account {
        vec![
            Address::User(o.d.sandbox.clone()),
            Address::Dir("instance".into()),
        ]
    } else {
        let records = o.d.records_group();
        let records = records.filter(|_| address == Address::Dir("records".into()));
        records.map(Address::Group).into_iter().collect()
    };
    b.add(
        Resource::new(address, Some(want), have)
            .steps(steps)
            .needs(needs),
    );
}

/// The name of an id; the plan itself may make the account.
fn name_of(o: &Observed, id: u32, user: bool) -> String {
    let (known, planned) = if user {
        (o.look.user_name(id), o.ids.sandbox)
    } else {
        (o.look.group_name(id), o.ids.sandbox_gid)
    };
    if id == planned && known == id.to_string() {
        o.d.sandbox.clone()
    } else {
        known
    }
}

fn is_as_desired(node: Option<&FsEntry>, w: &DesiredDir) -> bool {
    node.is_some_and(|n| {
        n.kind == FileType::Dir && n.uid == w.uid && n.gid == w.gid && n.mode == w.mode
    })
}

/// Removes everything that comfy keeps for the instance, and the home of an account that it made.
pub(crate) fn destroy(i: &Instance, removal: &Removal, b: &mut PlanBuilder) {
    let p = &i.d.paths;
    let there = |path: &Path| i.look.read_entry(path).ok().flatten();
    let base = there(&p.base).is_some_and(|n| n.kind == FileType::Dir);
    if !base && there(&p.records).is_none() {
        return;
    }
    let mut have = attrs([("path", p.base.display().to_string())]);
    if let Some(backup) = &removal.backup {
        have.insert("backup".into(), backup.display().to_string());
    }
    // The home of an adopted account is not comfy's.
    let made = i.inventory.users.contains_key(&i.d.sandbox);
    let home = p.home.clone().filter(|_| made);
    if let Some(h) = &home {
        have.insert("home".into(), h.display().to_string());
    }
    let step = Step::RemoveInstance {
        backup: removal.backup.clone(),
        home,
    };
    b.add(Resource::removed(
        Address::Dir("instance".into()),
        have,
        step,
    ));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn a_folder_with_another_mode_is_made_anew_and_all_end_as_one() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        host.apply(&d);
        assert_eq!(host.differences(&d, "dir"), [""; 0]);
        let state = d.paths.state_dir();
        host.with(|s| s.nodes.get_mut(&state).unwrap().mode = 0o777);
        assert_eq!(host.differences(&d, "dir"), ["update dir.state: make_dir"]);
        assert_eq!(
            host.removals(&d, "dir"),
            ["delete dir.instance: remove_instance"]
        );
    }
}
