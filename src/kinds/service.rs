//! `service.launcher`, `service.sudo`, `service.boot`: what starts an instance without asking,
//! where comfy.toml says so.

use std::path::Path;

use crate::desired::system_files::{self, ComfyProgram, FileKind, SystemFile};
use crate::manifest::IsolationMode;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::observed::{FileType, UnknownState};
use crate::plan::{Attrs, Step};

const LAUNCHER: &str = "service.launcher";

pub fn plan_service(draft: &mut PlanBuilder) {
    let d = draft.d;
    let account = d.isolation == IsolationMode::Account;
    let (sudo, boot) = (
        account && d.launch_settings().run.passwordless,
        account && d.launch_settings().run.boot,
    );
    plan_launcher(draft, sudo || boot);
    plan_file(
        draft,
        "service.sudo",
        sudo.then(|| system_files::sudoers_file(d)),
        &[FileKind::Sudoers],
    );
    plan_file(
        draft,
        "service.boot",
        boot.then(|| system_files::boot_file(d)),
        &[FileKind::Unit, FileKind::Daemon],
    );
}

fn plan_launcher(draft: &mut PlanBuilder, wanted: bool) {
    let path = draft.d.paths.launcher_program();
    let seen = draft.look.comfy_program(Some(&path));
    let Some(have) = draft.unwrap_seen(LAUNCHER, seen) else {
        return;
    };
    if !wanted {
        if have.is_some() {
            draft.add_resource(
                PlannedResource::new(LAUNCHER, None, have.as_ref().map(describe_program))
                    .with_steps([Step::RemoveLauncher { path }]),
            );
        }
        return;
    }
    let seen = draft.look.comfy_program(None);
    let Some(Some(own)) = draft.unwrap_seen(LAUNCHER, seen) else {
        return;
    };
    let copy = ComfyProgram {
        uid: 0,
        mode: 0o755,
        ..own.clone()
    };
    let mut r = PlannedResource::new(
        LAUNCHER,
        Some(describe_program(&copy)),
        have.as_ref().map(describe_program),
    )
    .with_needs(["dir.instance".to_string()]);
    for a in [r.want.as_mut(), r.have.as_mut()].into_iter().flatten() {
        a.insert("path".into(), path.display().to_string());
    }
    if let Some(why) = open_to_others(draft, &path) {
        return draft.add_resource(r.with_block(why));
    }
    if !have.is_some_and(|h| h.is_copy_of(&own)) {
        r = r.with_steps([Step::InstallLauncher {
            path,
            size: own.size,
            modified: own.modified,
        }]);
    }
    draft.add_resource(r);
}

fn describe_program(p: &ComfyProgram) -> Attrs {
    let when = chrono::DateTime::from_timestamp(p.modified, 0)
        .map_or(p.modified.to_string(), |t| {
            t.format("%Y-%m-%d %H:%M:%S").to_string()
        });
    attrs([
        ("owner", format!("uid {} {:04o}", p.uid, p.mode & 0o7777)),
        ("program", format!("comfy of {when} UTC, {} bytes", p.size)),
    ])
}

/// Whoever may change a folder above it may put another program in its place, and would be root.
fn open_to_others(draft: &PlanBuilder, path: &Path) -> Option<String> {
    for folder in path.ancestors().skip(1) {
        match draft.look.read_entry(folder) {
            // comfy's own folders are put right in the same apply, before.
            _ if folder.starts_with(&draft.d.paths.base) => {}
            Ok(None) => {}
            Ok(Some(n)) if n.kind == FileType::Dir && n.uid == 0 && n.mode & 0o022 == 0 => {}
            Ok(Some(_)) => {
                return Some(format!(
                    "{} is not root's alone: whoever changes it could start anything as root; put \
                     `prefix` elsewhere, or leave `passwordless` and `boot` off",
                    folder.display()
                ));
            }
            Err(u) => return Some(u.reason),
        }
    }
    None
}

fn plan_file(
    draft: &mut PlanBuilder,
    address: &str,
    wanted: Option<SystemFile>,
    kinds: &[FileKind],
) {
    // One of an earlier apply, whatever is asked now.
    let noted = kinds
        .iter()
        .map(|k| (*k, k.path_for(&draft.d.sandbox, draft.d.platform.macos)))
        .find(|(_, p)| draft.inventory.system.contains_key(p));
    let Some((kind, path)) = wanted.as_ref().map(|w| (w.kind, w.path.clone())).or(noted) else {
        return;
    };
    let have = match draft.look.system_text(&path) {
        Ok(have) => have,
        // What root alone reads is believed to be what root wrote; root's own plan looks.
        Err(UnknownState { root_can: true, .. }) => {
            draft.believed = true;
            draft.inventory.system.get(&path).cloned()
        }
        Err(u) => {
            draft
                .changes
                .push(crate::plan::change::unknown_change(address, &u));
            return;
        }
    };
    let said = |text: &String| {
        attrs([
            ("file", path.display().to_string()),
            ("says", essential_line(text)),
        ])
    };
    let mut r = PlannedResource::new(
        address,
        wanted.as_ref().map(|w| said(&w.text)),
        have.as_ref().map(said),
    );
    let Some(want) = wanted else {
        return draft.add_resource(r.with_steps([Step::RemoveSystemFile { kind, path }]));
    };
    if let Some(why) = unfit_reason(draft, &want) {
        return draft.add_resource(r.with_block(why));
    }
    if have.as_ref() != Some(&want.text) {
        if let (Some(h), Some(w)) = (r.have.as_mut(), r.want.as_mut())
            && h == w
        {
            h.insert("text".into(), "another".into());
            w.insert("text".into(), "as in this plan".into());
        }
        r = r.with_steps([Step::WriteSystemFile { file: want }]);
    }
    let why = (kind == FileKind::Daemon).then(|| {
        "nobody has shown yet that Metal works for what launchd starts; the log says \
            which device ComfyUI found"
            .to_string()
    });
    draft.add_resource(
        r.with_reason(why)
            .with_needs([LAUNCHER.to_string(), super::launch::ADDRESS.to_string()]),
    );
}

/// The line that counts.
fn essential_line(text: &str) -> String {
    let line = text
        .lines()
        .find(|l| l.contains("NOPASSWD") || l.starts_with("ExecStart="));
    line.map_or_else(|| "starts at boot".into(), str::to_string)
}

fn unfit_reason(draft: &PlanBuilder, want: &SystemFile) -> Option<String> {
    let plain = |s: &str| {
        s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
    };
    let launcher = draft.d.paths.launcher_program().display().to_string();
    match want.kind {
        FileKind::Sudoers if !plain(&launcher) => Some(format!(
            "{} has characters that mean something in sudoers(5); put `prefix` elsewhere",
            crate::text::escape_text(&launcher)
        )),
        FileKind::Sudoers if draft.d.sandbox.contains('.') => Some(
            "sudo passes over files whose name has a dot, as the name of the sandbox user does"
                .into(),
        ),
        _ => {
            let folder = want.path.parent()?;
            let there = draft.look.read_entry(folder).ok()?.is_some();
            (!there).then(|| format!("{} is not on this system", folder.display()))
        }
    }
}
