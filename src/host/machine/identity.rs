//! Which machine this is, and whose.

use crate::desired::{HostPlatform, PrimaryUser};
use crate::problem::{Problem, Result};

pub(crate) fn host_platform() -> HostPlatform {
    let (macos, machine) = (cfg!(target_os = "macos"), std::env::consts::ARCH);
    HostPlatform {
        macos,
        machine: if macos && machine == "aarch64" {
            "arm64".into()
        } else {
            machine.into()
        },
    }
}

/// The short host name, as `hostname -s` prints it.
pub(crate) fn short_hostname() -> String {
    let full = nix::unistd::gethostname()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_else(|_| "localhost".into());
    full.split('.').next().unwrap_or(&full).to_string()
}

/// Returns the primary user: the one in comfy.toml, or whoever runs comfy, through sudo too.
///
/// # Errors
/// If the account does not exist, or would be root where that makes no sense.
pub(crate) fn primary_owner(named: Option<&str>, isolated: bool) -> Result<PrimaryUser> {
    let lookup = |name: &str| nix::unistd::User::from_name(name).ok().flatten();
    let me = nix::unistd::geteuid();
    let sudo = crate::host::env::var("SUDO_USER").filter(|_| me.is_root());
    let user = match named.map(str::to_string).or(sudo) {
        Some(name) => lookup(&name).ok_or_else(|| {
            Problem::new(format!(
                "host.primary_user: account {} does not exist",
                crate::text::escape_text(&name)
            ))
            .with_hint("name the account of the person who uses ComfyUI")
        })?,
        None => match nix::unistd::User::from_uid(me).ok().flatten() {
            Some(user) => user,
            // A container's made-up uid: enough where one account does everything.
            None if !isolated => {
                let home = crate::host::env::home_dir().ok_or_else(|| {
                    Problem::new(format!("uid {me} has no account and HOME is not set"))
                        .with_hint("set HOME")
                })?;
                return Ok(PrimaryUser {
                    name: me.to_string(),
                    uid: me.as_raw(),
                    gid: nix::unistd::getegid().as_raw(),
                    home,
                });
            }
            None => {
                return Err(Problem::new(format!("uid {me} has no account"))
                    .with_hint("set host.primary_user in comfy.toml"));
            }
        },
    };
    if !isolated && me.is_root() && !user.uid.is_root() {
        return Err(Problem::new(format!(
            "isolation \"none\" runs everything as {}, but you are root",
            user.name
        ))
        .with_hint(format!("run it as {}, without sudo", user.name)));
    }
    if isolated && user.uid.is_root() {
        return Err(Problem::new(
            "the primary user would be root, and no other account can be kept from root's files",
        )
        .with_hint("set host.primary_user in comfy.toml, or run comfy as that user"));
    }
    if !isolated && !me.is_root() && user.uid != me {
        return Err(Problem::new(format!(
            "host.primary_user is {}, but isolation \"none\" runs everything as you",
            user.name
        ))
        .with_hint(format!("run comfy as {}", user.name)));
    }
    // What this process makes has its own group, whatever the account database says.
    let gid = if !isolated && user.uid == me {
        nix::unistd::getegid()
    } else {
        user.gid
    };
    Ok(PrimaryUser {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: gid.as_raw(),
        home: user.dir,
    })
}
