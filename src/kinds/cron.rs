//! `cron.SANDBOX`: the sandbox user has no jobs that outlive a launch. A file that lists who may is
//! not touched; one that lists who may not gets a line.

use std::path::{Path, PathBuf};

use crate::manifest::IsolationMode;
use crate::plan::Step;
use crate::plan::build::{PlanBuilder, PlannedResource, attrs};
use crate::plan::observed::{Seen, UnknownState};

/// Who may, who may not (crontab(1), at(1)), and whether everybody may where neither file is there.
fn cron_services(macos: bool, debian: bool) -> [(&'static str, PathBuf, PathBuf, bool); 2] {
    let folder = Path::new(if macos { "/private/var/at" } else { "/etc" });
    let files = |name: &str| {
        (
            folder.join(format!("{name}.allow")),
            folder.join(format!("{name}.deny")),
        )
    };
    let ((cron_allow, cron_deny), (at_allow, at_deny)) = (files("cron"), files("at"));
    // Debian's crontab(1); elsewhere it is root alone, and an empty list of who may not would open
    // it.
    [
        ("crontab", cron_allow, cron_deny, debian),
        ("at", at_allow, at_deny, false),
    ]
}

pub fn plan_cron(draft: &mut PlanBuilder) {
    if draft.d.isolation == IsolationMode::None {
        return;
    }
    let there = |draft: &PlanBuilder, path: &str| {
        matches!(draft.look.read_entry(Path::new(path)), Ok(Some(_)))
    };
    let debian = there(draft, "/etc/debian_version") && there(draft, "/usr/bin/crontab");
    let user = draft.d.sandbox.clone();
    let mut open = Vec::new();
    for (name, allow, deny, by_default) in cron_services(draft.d.platform.macos, debian) {
        let allowed = read_list(draft, &allow);
        let listed = |text: &Option<String>| {
            text.as_ref()
                .is_some_and(|t| t.lines().any(|l| l.trim() == user))
        };
        match allowed {
            // Unreadable is there: whoever is not in it may not. Root's own plan looks.
            Err(_) => {}
            Ok(Some(_)) if listed(&allowed.clone().unwrap_or_default()) => {
                draft.warnings.push(format!(
                    "{} lets {user} have jobs that outlive a launch: take it out",
                    allow.display()
                ));
            }
            Ok(Some(_)) => {}
            Ok(None) => match read_list(draft, &deny) {
                Err(_) if draft.inventory.denied.contains(&deny) => {}
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
    let steps = open.into_iter().map(|(_, file)| Step::Deny {
        file,
        user: user.clone(),
    });
    draft.add_resource(
        PlannedResource::new(format!("cron.{user}"), Some(closed()), Some(have))
            .with_steps(steps)
            .with_needs([format!("user.{user}")]),
    );
}

fn read_list(draft: &mut PlanBuilder, path: &Path) -> Seen<Option<String>> {
    let seen = draft.look.system_text(path);
    draft.believed |= matches!(seen, Err(UnknownState { root_can: true, .. }));
    seen
}
