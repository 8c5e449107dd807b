//! `cron.SANDBOX`: the sandbox user has no jobs that outlive a launch. An allow list
//! is not changed; a deny list gets one line.

use std::path::{Path, PathBuf};

use super::Removal;
use super::builder::{Instance, Observed, PlanBuilder, Resource, attrs};
use crate::ids::Address;
use crate::manifest::IsolationMode;
use crate::manifest::platforms::OperatingSystem;
use crate::plan::Step;
use crate::plan::observed::{Seen, UnknownState};

/// The allow list, the deny list (crontab(1), at(1)), and whether everybody may have jobs if
/// neither file exists.
fn cron_services(os: OperatingSystem, debian: bool) -> [(&'static str, PathBuf, PathBuf, bool); 2] {
    let folder = Path::new(if os.is_macos() {
        "/private/var/at"
    } else {
        "/etc"
    });
    let files = |name: &str| {
        (
            folder.join(format!("{name}.allow")),
            folder.join(format!("{name}.deny")),
        )
    };
    let ((cron_allow, cron_deny), (at_allow, at_deny)) = (files("cron"), files("at"));
    // Debian's crontab(1), and macOS's for a caller with COMMAND_MODE=legacy (cron-52 `crontab.c`;
    // Libc `get_compat.c`); elsewhere only root may, and an empty deny list would admit everybody.
    [
        ("crontab", cron_allow, cron_deny, debian || os.is_macos()),
        ("at", at_allow, at_deny, false),
    ]
}

pub(crate) fn plan_cron(o: &Observed, b: &mut PlanBuilder) {
    if o.d.isolation == IsolationMode::None {
        return;
    }
    let there =
        |o: &Instance, path: &str| matches!(o.look.read_entry(Path::new(path)), Ok(Some(_)));
    let debian = there(o, "/etc/debian_version") && there(o, "/usr/bin/crontab");
    let user = o.d.sandbox.clone();
    let mut open = Vec::new();
    for (name, allow, deny, by_default) in cron_services(o.d.platform.os, debian) {
        let allowed = read_list(o, b, &allow);
        let listed = |text: &Option<String>| {
            text.as_ref()
                .is_some_and(|t| t.lines().any(|l| l.trim() == user))
        };
        match allowed {
            // An unreadable allow list exists: users who are not in it have no jobs. Root's own
            // plan reads it.
            Err(_) => {}
            Ok(Some(_)) if listed(&allowed.clone().unwrap_or_default()) => {
                b.warnings.push(format!(
                    "{} lets {user} have jobs that outlive a launch: remove {user} from it",
                    allow.display()
                ));
            }
            Ok(Some(_)) => {}
            Ok(None) => match read_list(o, b, &deny) {
                Err(_) if o.inventory.denied.contains(&deny) => {}
                Err(_) => open.push((name, deny)),
                Ok(None) if !by_default => {}
                Ok(text) if listed(&text) => {}
                Ok(_) => open.push((name, deny)),
            },
        }
    }
    let closed = || attrs([("jobs", "none of its own".to_string())]);
    let have = if open.is_empty() {
        closed()
    } else {
        attrs([(
            "jobs",
            open.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", "),
        )])
    };
    let steps = open.into_iter().map(|(_, file)| Step::DenyCronJobs {
        file,
        user: user.clone(),
    });
    b.add(
        Resource::new(Address::Cron(user.clone()), Some(closed()), Some(have))
            .steps(steps)
            .needs([Address::User(user.clone())]),
    );
}

fn read_list(o: &Observed, b: &mut PlanBuilder, path: &Path) -> Seen<Option<String>> {
    let seen = o.look.system_text(path);
    b.assumed |= matches!(seen, Err(UnknownState { root_can: true, .. }));
    seen
}

/// Removes comfy's lines from the deny lists.
pub(crate) fn destroy(i: &Instance, _: &Removal, b: &mut PlanBuilder) {
    for file in &i.inventory.denied {
        let step = Step::AllowCronJobs {
            file: file.clone(),
            user: i.d.sandbox.clone(),
        };
        let have = attrs([("denied by", file.display().to_string())]);
        b.add(Resource::removed(
            Address::Cron(i.d.sandbox.clone()),
            have,
            step,
        ));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use crate::manifest::platforms::OperatingSystem;
    use crate::testing::{Locked, MemoryHost, desired};

    #[test]
    fn on_a_mac_everybody_may_have_jobs_until_a_list_says_no() {
        let mac = Locked {
            os: OperatingSystem::MacOs,
            ..Locked::default()
        };
        let (host, d) = (MemoryHost::fresh(), desired("", &mac));
        let deny = ["update cron.comfyui_sandbox: deny"];
        assert_eq!(host.differences(&d, "cron"), deny);
        // As Apple installs it.
        let file = "/private/var/at/cron.deny";
        host.with(|s| s.system.insert(file.into(), "Guest\n".into()));
        assert_eq!(host.differences(&d, "cron"), deny);
        host.with(|s| {
            s.system
                .insert(file.into(), "Guest\ncomfyui_sandbox\n".into())
        });
        assert_eq!(host.differences(&d, "cron"), [""; 0]);
    }

    #[test]
    fn a_list_of_who_may_not_gets_a_line() {
        let (host, d) = (MemoryHost::fresh(), desired("", &Locked::default()));
        assert_eq!(host.differences(&d, "cron"), [""; 0]);
        let list = |s: &mut crate::testing::MachineState, text: &str| {
            s.system.insert("/etc/at.deny".into(), text.into());
        };
        host.with(|s| list(s, "daemon\n"));
        assert_eq!(
            host.differences(&d, "cron"),
            ["update cron.comfyui_sandbox: deny"]
        );
        host.with(|s| list(s, "daemon\ncomfyui_sandbox\n"));
        assert_eq!(host.differences(&d, "cron"), [""; 0]);
        host.with(|s| s.inventory.denied.insert("/etc/at.deny".into()));
        assert_eq!(
            host.removals(&d, "cron"),
            ["delete cron.comfyui_sandbox: permit"]
        );
    }
}
