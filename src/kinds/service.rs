//! `service.launcher`, `service.sudo`, `service.boot`: what starts an instance without asking, if
//! comfy.toml says so.

use std::path::Path;

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use crate::desired::system_files::{self, ComfyProgram, FileKind, SystemFile};
use crate::ids::Address;
use crate::manifest::IsolationMode;
use crate::plan::observed::{FileType, UnknownState};
use crate::plan::{Attrs, Step};

fn launcher_address() -> Address {
    Address::Service("launcher".into())
}

pub(crate) fn plan_service(o: &Observed, b: &mut PlanBuilder) {
    let d = o.d;
    let account = d.isolation == IsolationMode::Account;
    let (sudo, boot) = (account && d.run.passwordless, account && d.run.boot);
    plan_launcher(o, b, sudo || boot);
    plan_file(
        o,
        b,
        Address::Service("sudo".into()),
        sudo.then(|| system_files::sudoers_file(d)),
        &[FileKind::Sudoers],
    );
    plan_file(
        o,
        b,
        Address::Service("boot".into()),
        boot.then(|| system_files::boot_file(d)),
        &[FileKind::Unit, FileKind::Daemon],
    );
}

fn plan_launcher(o: &Observed, b: &mut PlanBuilder, wanted: bool) {
    let path = o.d.paths.launcher_program();
    let seen = o.look.comfy_program(Some(&path));
    let Some(have) = b.seen(&launcher_address(), seen) else {
        return;
    };
    if !wanted {
        if have.is_some() {
            b.add(
                Resource::new(
                    launcher_address(),
                    None,
                    have.as_ref().map(describe_program),
                )
                .steps([Step::RemoveLauncher { path }]),
            );
        }
        return;
    }
    let seen = o.look.comfy_program(None);
    let Some(Some(own)) = b.seen(&launcher_address(), seen) else {
        return;
    };
    let copy = ComfyProgram {
        uid: 0,
        mode: 0o755,
        ..own.clone()
    };
    let mut r = Resource::new(
        launcher_address(),
        Some(describe_program(&copy)),
        have.as_ref().map(describe_program),
    )
    .needs([Address::Dir("instance".into())]);
    for a in [r.want.as_mut(), r.have.as_mut()].into_iter().flatten() {
        a.insert("path".into(), path.display().to_string());
    }
    if let Some(why) = open_to_others(o, &path) {
        return b.add(r.block(why));
    }
    if !have.is_some_and(|h| h.is_copy_of(&own)) {
        r = r.steps([Step::InstallLauncher {
            path,
            size: own.size,
            modified: own.modified,
        }]);
    }
    b.add(r);
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

/// Whoever can change a folder above it can put another program in its place, and would be root.
fn open_to_others(o: &Instance, path: &Path) -> Option<String> {
    for folder in path.ancestors().skip(1) {
        match o.look.read_entry(folder) {
            // comfy's own folders are repaired earlier in the same apply.
            _ if folder.starts_with(&o.d.paths.base) => {}
            Ok(None) => {}
            Ok(Some(n)) if n.kind == FileType::Dir && n.uid == 0 && n.mode & 0o022 == 0 => {}
            Ok(Some(_)) => {
                return Some(format!(
                    "{} can be changed by others than root, who could then start anything as root; \
                     put `prefix` elsewhere, or turn `passwordless` and `boot` off",
                    folder.display()
                ));
            }
            Err(u) => return Some(u.reason),
        }
    }
    None
}

fn plan_file(
    o: &Observed,
    b: &mut PlanBuilder,
    address: Address,
    wanted: Option<SystemFile>,
    kinds: &[FileKind],
) {
    // The file of an earlier apply, whatever comfy.toml asks now.
    let noted = kinds
        .iter()
        .map(|k| (*k, k.path_for(&o.d.sandbox, o.d.platform.os)))
        .find(|(_, p)| o.inventory.system.contains_key(p));
    let Some((kind, path)) = wanted.as_ref().map(|w| (w.kind, w.path.clone())).or(noted) else {
        return;
    };
    let have = match o.look.system_text(&path) {
        Ok(have) => have,
        // What only root can read is assumed to be what root wrote; root's own plan reads it.
        Err(UnknownState { root_can: true, .. }) => {
            b.assumed = true;
            o.inventory.system.get(&path).cloned()
        }
        Err(u) => {
            b.changes
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
    let mut r = Resource::new(
        address,
        wanted.as_ref().map(|w| said(&w.text)),
        have.as_ref().map(said),
    );
    let Some(want) = wanted else {
        return b.add(r.steps([Step::RemoveSystemFile { kind, path }]));
    };
    if let Some(why) = unfit_reason(o, &want) {
        return b.add(r.block(why));
    }
    if have.as_ref() != Some(&want.text) {
        if let (Some(h), Some(w)) = (r.have.as_mut(), r.want.as_mut())
            && h == w
        {
            h.insert("text".into(), "another".into());
            w.insert("text".into(), "as in this plan".into());
        }
        r = r.steps([Step::WriteSystemFile { file: want }]);
    }
    let why = (kind == FileKind::Daemon).then(|| {
        "launchd starts it from the next start of the Mac on; it is not yet tested whether Metal works \
         for what launchd starts: the log says which device ComfyUI found"
            .to_string()
    });
    b.add(r.reason(why).needs([launcher_address(), Address::Run]));
}

/// The line that counts.
fn essential_line(text: &str) -> String {
    let line = text
        .lines()
        .find(|l| l.contains("NOPASSWD") || l.starts_with("ExecStart="));
    line.map_or_else(|| "starts at boot".into(), str::to_string)
}

fn unfit_reason(o: &Instance, want: &SystemFile) -> Option<String> {
    let plain = |s: &str| {
        s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b))
    };
    let launcher = o.d.paths.launcher_program().display().to_string();
    match want.kind {
        FileKind::Sudoers if !plain(&launcher) => Some(format!(
            "{} has characters that are special in sudoers(5); choose another `prefix`",
            crate::text::escape_text(&launcher)
        )),
        FileKind::Sudoers if o.d.sandbox.contains('.') => Some(
            "sudo ignores files with a dot in their name, and the sandbox user's name has one"
                .into(),
        ),
        _ => {
            let folder = want.path.parent()?;
            let there = o.look.read_entry(folder).ok()?.is_some();
            (!there).then(|| format!("{} does not exist on this system", folder.display()))
        }
    }
}

/// Removes comfy's files from system folders; the launcher goes with the instance's folder.
pub(crate) fn destroy(i: &Instance, _: &Removal, b: &mut PlanBuilder) {
    for path in i.inventory.system.keys() {
        let kind = [FileKind::Sudoers, FileKind::Unit, FileKind::Daemon]
            .into_iter()
            .find(|k| k.path_for(&i.d.sandbox, i.d.platform.os) == *path);
        if let Some(kind) = kind {
            let shown = path.display().to_string();
            let have = attrs([("file", shown.clone())]);
            let path = path.clone();
            let step = Step::RemoveSystemFile { kind, path };
            b.add(Resource::removed(Address::Service(shown), have, step));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn a_rule_comes_with_its_program_and_both_go() {
        let asked = desired("[run]\npasswordless = true\n", &Locked::default());
        let host = MemoryHost::fresh();
        assert_eq!(
            host.differences(&asked, "service"),
            [
                "create service.launcher: install_launcher",
                "create service.sudo: write_system_file"
            ]
        );
        host.apply(&asked);
        assert_eq!(host.differences(&asked, "service"), [""; 0]);
        assert_eq!(
            host.removals(&asked, "service"),
            ["delete service./etc/sudoers.d/comfy-comfyui_sandbox: remove_system_file"]
        );
        assert_eq!(
            host.differences(&desired("", &Locked::default()), "service"),
            [
                "delete service.launcher: remove_launcher",
                "delete service.sudo: remove_system_file"
            ]
        );
    }
}
