//! Settings of comfy.toml that this version does not enforce.

use crate::manifest::platforms::OperatingSystem;
use crate::manifest::{ClientPolicy, EgressPolicy, IsolationMode, Manifest};

/// Lists the settings of comfy.toml, defaults included, that this version does not enforce on this
/// platform.
pub(super) fn not_enforced(m: &Manifest, os: OperatingSystem) -> Vec<String> {
    let (mut out, macos) = (Vec::new(), os.is_macos());
    let none = m.host.isolation == IsolationMode::None;
    let egress = match &m.network.egress {
        EgressPolicy::Allow => None,
        EgressPolicy::Deny => Some("network.egress = \"deny\"".to_string()),
        EgressPolicy::Only(list) => Some(format!("network.egress = a list of {}", list.len())),
    };
    // A network namespace enforces egress, and the gateway enforces who may connect.
    if let Some(egress) = egress.filter(|_| none) {
        let how = if macos {
            "by port alone, not by host"
        } else {
            "for TCP and by port alone, if the kernel's Landlock knows ports; a node can still \
                listen on a port that the system chooses"
        };
        out.push(format!(
            "{egress}: under isolation \"none\" it is enforced {how}"
        ));
    }
    if m.network.clients != ClientPolicy::Any && none {
        out.push(
            "network.clients: under isolation \"none\" every user of this machine can reach ComfyUI"
                .into(),
        );
    }
    if none && !macos && m.run.memory_reserve > 0 {
        out.push(
            "run.memory_reserve: under isolation \"none\" nothing is kept for the system".into(),
        );
    }
    if macos {
        out.push(format!(
            "policy.confinement = \"{}\": a Seatbelt profile is applied, but nobody has tested it \
                on a Mac yet",
            m.policy.confinement
        ));
    }
    out.extend(
        not_yet(m)
            .into_iter()
            .map(|s| format!("{s}: read and checked, but not enforced by this version")),
    );
    out
}

fn not_yet(m: &Manifest) -> Vec<String> {
    let mut out = Vec::new();
    if m.comfyui.allow_remote && m.host.isolation == IsolationMode::None {
        out.push("comfyui.allow_remote: whoever reaches the port may use ComfyUI".into());
    }
    out
}
