//! `dir.NAME`: comfy's own folders, sealed ones and the sandbox user's.

use std::path::{Path, PathBuf};

use crate::manifest::IsolationMode;
use crate::plan::build::{PlanBuilder, PlannedResource};
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

pub fn plan_dirs(draft: &mut PlanBuilder) {
    let (d, ids) = (draft.d, draft.ids);
    let p = &d.paths;
    let sealed = |path: PathBuf, mode| DesiredDir {
        path,
        uid: ids.seal,
        gid: ids.seal_gid,
        mode,
        passer: None,
    };
    let account = d.isolation == IsolationMode::Account;
    // The owner may pass: a plan looks at what lies in there. Nobody else does.
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
        let exposed = draft.look.why_exposed(&p.generations_dir(), ids.owner);
        let Some(exposed) = draft.unwrap_seen("dir.instance", exposed) else {
            return;
        };
        if let Some(why) = exposed {
            let why = format!("{why}; or leave host.prefix out for /opt/comfy");
            let want = crate::plan::build::attrs([("path", p.prefix.display().to_string())]);
            draft.add_resource(
                PlannedResource::new("dir.instance", Some(want), None).with_block(why),
            );
            return;
        }
    }
    plan_dir(
        draft,
        "dir.instance",
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
        gid: ids.records_gid(),
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
    plan_dir(draft, "dir.records", folders, false);
    if let Some(home) = &p.home {
        plan_dir(draft, "dir.home", vec![own(home.clone())], true);
    }
    warn_moved_prefix(draft);
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
    plan_dir(draft, "dir.state", state, true);
}

/// Another `host.prefix`: comfy begins anew there, and knows nothing of the old folder from then
/// on. Under isolation "none" the records lie in it too, so that there nothing is known of it at
/// once.
fn warn_moved_prefix(draft: &mut PlanBuilder) {
    let state = draft
        .inventory
        .applied
        .get("dir.state")
        .and_then(|a| a.keys().next());
    let Some(old) = state
        .and_then(|s| Path::new(s).parent())
        .filter(|old| *old != draft.d.paths.base)
    else {
        return;
    };
    if !matches!(draft.look.read_entry(old), Ok(None)) {
        let (old, new) = (old.display(), draft.d.paths.base.display());
        draft.warnings.push(format!(
            "host.prefix is another one: {new} is made anew, and {old} stays as it is, with what \
             nodes have written in {old}/state. Copy from there what you need, and remove it; or \
             take the change of host.prefix back"
        ));
    }
}

fn plan_dir(draft: &mut PlanBuilder, address: &str, wishes: Vec<DesiredDir>, sandbox: bool) {
    let (mut want, mut have, mut steps, mut any) = (Attrs::new(), Attrs::new(), Vec::new(), false);
    for w in wishes {
        let seen = draft.look.read_entry(&w.path);
        let seen = match seen {
            // Below a folder that does not exist yet, or that is not a folder, there is nothing.
            Err(u) => {
                draft
                    .changes
                    .push(crate::plan::change::unknown_change(address, &u));
                return;
            }
            Ok(n) => n,
        };
        let key = w.path.display().to_string();
        let name = |id: u32, user: bool| {
            if user {
                draft.look.user_name(id)
            } else {
                draft.look.group_name(id)
            }
        };
        let passes = |p: &SearchingUser| {
            let seen = draft.look.search_permission(&w.path, &p.name, p.uid, &[])?;
            Ok::<_, UnknownState>(seen.is_some_and(|s| s.entry && s.passes))
        };
        let folder = seen.as_ref().is_some_and(|n| n.kind == FileType::Dir);
        let entry = match w.passer.as_ref().filter(|_| folder).map(passes).transpose() {
            Ok(entry) => entry.unwrap_or(w.passer.is_none()),
            Err(u) => {
                draft
                    .changes
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
    let needs: Vec<String> = if sandbox && draft.d.isolation == IsolationMode::Account {
        vec![format!("user.{}", draft.d.sandbox), "dir.instance".into()]
    } else {
        Vec::new()
    };
    draft.add_resource(
        PlannedResource::new(address, Some(want), have)
            .with_steps(steps)
            .with_needs(needs),
    );
}

fn is_as_desired(node: Option<&FsEntry>, w: &DesiredDir) -> bool {
    node.is_some_and(|n| {
        n.kind == FileType::Dir && n.uid == w.uid && n.gid == w.gid && n.mode == w.mode
    })
}
