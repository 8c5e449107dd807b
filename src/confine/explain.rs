//! The confinement as text: what is allowed, and why.

use std::path::Path;

use super::{Confinement, PathAccess, PrivateMount};
use crate::desired::launch::{InnerPorts, LaunchSpec};
use crate::manifest::{ClientPolicy, EgressPolicy};

/// A line for each part of the confinement, then one for each file rule. `limited`: the memory of
/// the launch is. `is_present` says whether a path exists here.
pub(crate) fn explain_text(
    spec: &LaunchSpec,
    c: &Confinement,
    inner: InnerPorts,
    limited: bool,
    is_present: &dyn Fn(&Path) -> bool,
) -> String {
    let rooms = !c.rooms.is_empty();
    let mut out = String::from("walls:\n");
    let mut line = |name: &str, what: String| out += &format!("  {name:<12} {what}\n");
    if rooms {
        line(
            "network",
            format!(
                "private, loopback only; ComfyUI listens there, at 127.0.0.1:{}",
                inner.comfyui
            ),
        );
        line("processes", "private; they exit together".into());
        line(
            "root folder",
            "private, with what is listed below; /run does not exist, nor any socket in it".into(),
        );
    } else if let Some(p) = &c.ports {
        let list = |ports: &[u16]| {
            ports
                .iter()
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        };
        line(
            "network",
            format!(
                "the system's; TCP ports to listen on: {}; to reach: {}",
                list(&p.bind),
                list(&[p.connect.as_slice(), &p.outside].concat())
            ),
        );
    } else {
        line("network", "the system's, without limits".into());
    }
    line("way out", way_out(&spec.network.egress, inner));
    line("way in", way_in(spec));
    if spec.os.is_macos() {
        line(
            "files",
            "Seatbelt lets it reach what is listed below".into(),
        );
        line(
            "rights",
            "none can be gained: set-uid programs (sudo, ps, crontab, at) do not start".into(),
        );
    } else {
        line(
            "files",
            "Landlock lets it reach what is listed below".into(),
        );
        line(
            "system calls",
            "blocked: namespaces, mounts, ptrace, io_uring, keyrings, bpf; sockets: UNIX, IP and \
                netlink only"
                .into(),
        );
        line(
            "rights",
            "none can be gained: set-uid programs have no effect".into(),
        );
    }
    let kept = match limited {
        true => format!(
            "{} of memory kept for the system",
            crate::text::format_bytes(spec.memory_reserve)
        ),
        false if spec.os.is_macos() && spec.memory_reserve > 0 => format!(
            "{} of memory that ComfyUI is asked to leave free",
            crate::text::format_bytes(spec.memory_reserve)
        ),
        false => "all memory".into(),
    };
    // The score that the kernel goes by is Linux's (proc_pid_oom_score_adj(5)).
    let first = match rooms {
        true => "; killed before others when memory runs out",
        false => "",
    };
    line(
        "limits",
        format!(
            "{} open files, no core dumps; {kept}{first}",
            spec.open_files
        ),
    );
    out += &files_text(c, is_present);
    out.trim_end().to_string()
}

/// A line for each file rule.
fn files_text(c: &Confinement, is_present: &dyn Fn(&Path) -> bool) -> String {
    let mut out = String::from("files, if accounts and modes allow it too:\n");
    let width = c
        .rules
        .iter()
        .map(|r| r.path.to_string_lossy().chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    for r in &c.rules {
        let word = match r.may {
            PathAccess::Read => "read",
            PathAccess::Run => "read, run",
            PathAccess::Write => "read, write",
            PathAccess::Make => "read, write, run",
            PathAccess::Device => "device",
        };
        let here = if c
            .rooms
            .iter()
            .any(|(p, room)| *p == r.path && *room != PrivateMount::Temp)
            || is_present(&r.path)
        {
            ""
        } else {
            " (not here)"
        };
        out += &format!(
            "  {word:<12} {:<width$}  {}{here}\n",
            crate::text::escape_text(&r.path.to_string_lossy()),
            r.why
        );
    }
    out
}

fn way_out(egress: &EgressPolicy, inner: InnerPorts) -> String {
    let proxy = inner.proxy.map_or(String::new(), |p| {
        format!(", through the gateway's proxy at 127.0.0.1:{p}")
    });
    match egress {
        EgressPolicy::Deny => "none".into(),
        EgressPolicy::Allow => format!("every address of the internet{proxy}"),
        EgressPolicy::Only(list) if inner.proxy.is_none() => {
            format!("the ports of {}, whatever the host", list.join(", "))
        }
        EgressPolicy::Only(list) => format!("{}{proxy}", list.join(", ")),
    }
}

fn way_in(spec: &LaunchSpec) -> String {
    if !spec.behind_gateway() {
        return format!(
            "{} is ComfyUI's own port: whoever reaches it can use ComfyUI",
            spec.listen_address()
        );
    }
    let who = match &spec.network.clients {
        // Services that run as root fetch addresses for others.
        ClientPolicy::Any => "every user of this machine except root".to_string(),
        ClientPolicy::Primary => format!("uid {}", spec.owner),
        ClientPolicy::Only(list) => format!("uid {} and {}", spec.owner, list.join(", ")),
    };
    let how = if spec.os.is_macos() {
        " by uid, or by token if macOS does not tell it"
    } else {
        ""
    };
    format!(
        "{} belongs to the gateway (uid {}), which admits {who}{how}; it rejects pages of other \
            sites",
        spec.listen_address(),
        spec.gateway_uid
    )
}
