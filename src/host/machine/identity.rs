//! Which machine this is, and whose.

use crate::desired::{HostPlatform, PrimaryUser};
use crate::host::env;
use crate::manifest::platforms::OperatingSystem;
use crate::problem::{Problem, Result};

/// Returns the system that comfy decides for: this machine's, or in a test (feature `faults`) that
/// of COMFY_PLATFORM.
pub(crate) fn operating_system() -> OperatingSystem {
    let own = OperatingSystem::from(cfg!(target_os = "macos"));
    match env::test_switch("COMFY_PLATFORM").as_deref() {
        Some("macos") => OperatingSystem::MacOs,
        _ => own,
    }
}

pub(crate) fn host_platform() -> HostPlatform {
    let (os, machine) = (operating_system(), std::env::consts::ARCH);
    // A Linux machine that plays a Mac plays the one that locks serve.
    let mac = os.is_macos() && (machine == "aarch64" || !cfg!(target_os = "macos"));
    HostPlatform {
        os,
        machine: if mac { "arm64" } else { machine }.into(),
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
        .with_hint(
            "set host.primary_user in comfy.toml, or run comfy as that user; on a machine that has \
             no other user, such as a container, write `isolation = \"none\"` below [host]",
        ));
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

/// Returns the accounts of persons in /etc/passwd, as login.defs(5) separates them from the
/// system's; `None` where that file does not say, as on a Mac.
pub(crate) fn people() -> Option<Vec<String>> {
    if operating_system().is_macos() {
        return None;
    }
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    Some(parse_people(&text))
}

fn parse_people(passwd: &str) -> Vec<String> {
    let of_person = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, _, shell] = fields[..] else {
            return None;
        };
        let uid: u32 = uid.parse().ok()?;
        ((1000..60_000).contains(&uid)
            && !shell.ends_with("/nologin")
            && !shell.ends_with("/false"))
        .then(|| name.to_string())
    };
    passwd.lines().filter_map(of_person).collect()
}

/// Another program that is called `comfy`, such as comfy-cli.
pub(crate) struct OtherProgram {
    pub path: std::path::PathBuf,
    /// Whether PATH finds it before this one.
    pub comes_first: bool,
    /// Another name of the same package, if it is installed beside it.
    pub also_as: Option<String>,
    pub own_folder: std::path::PathBuf,
}

/// Finds another program called `comfy` in PATH.
pub(crate) fn other_comfy() -> Option<OtherProgram> {
    use std::os::unix::fs::MetadataExt;
    let own = std::env::current_exe().ok()?;
    let own_inode = own.metadata().ok().map(|m| (m.dev(), m.ino()))?;
    let mut own_seen = false;
    for folder in crate::host::env::path_folders() {
        let path = folder.join("comfy");
        let Ok(found) = path.metadata() else { continue };
        if (found.dev(), found.ino()) == own_inode {
            own_seen = true;
        } else if found.is_file() && found.mode() & 0o111 != 0 {
            // The entry points of comfy-cli (its pyproject.toml).
            let also_as = ["comfy-cli", "comfycli"].into_iter();
            return Some(OtherProgram {
                also_as: also_as
                    .map(String::from)
                    .find(|name| folder.join(name).exists()),
                comes_first: !own_seen,
                own_folder: own.parent()?.to_path_buf(),
                path,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_person_has_a_uid_of_a_person_and_a_shell() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n\
            pat:x:1000:1000::/home/pat:/bin/bash\nghost:x:1001:1001::/:/bin/false\n\
            nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(super::parse_people(passwd), ["pat"]);
        assert_eq!(
            super::parse_people("root:x:0:0:root:/root:/bin/bash\n"),
            [""; 0]
        );
    }
}
