//! Files of comfy's in folders of the system, and the copy of comfy that they name. Root's side
//! alone comes here.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::process::ProgramRunner;
use super::tools::{self, first_existing};
use crate::desired::InstancePaths;
use crate::desired::system_files::{FileKind, SystemFile, launchd_target};
use crate::host::fs::edit;
use crate::host::machine::operating_system;
use crate::problem::{Context, Problem, Result};

/// Copies the program that runs, as the plan saw it.
///
/// # Errors
/// It is another by now; the disk.
pub(crate) fn install_launcher(path: &Path, size: u64, modified: i64) -> Result<()> {
    let doing = || format!("copy comfy to {}", path.display());
    let own = super::roles::spawn::own_program().with_context(doing)?;
    let seen = super::elevate::program_of(None).with_context(doing)?;
    let bytes = std::fs::read(own).with_context(doing)?;
    if seen.is_none_or(|p| (p.size, p.modified) != (size, modified)) || bytes.len() as u64 != size {
        return Err(
            Problem::new("comfy's own program changed since the plan was made")
                .with_hint("run `comfy apply` again"),
        );
    }
    if let Some(folder) = path.parent() {
        edit::make_dir(folder, 0, 0, 0o755).with_context(doing)?;
    }
    edit::write_file(path, &bytes, 0o755, Some((0, 0))).with_context(doing)?;
    // By its age a copy is told from one of an older comfy.
    let when = UNIX_EPOCH + Duration::from_secs(u64::try_from(modified).unwrap_or(0));
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|f| f.set_modified(when))
        .with_context(doing)
}

/// Writes one, after the program that reads it has found it good.
///
/// # Errors
/// It is refused; the disk.
pub(crate) fn write_file(
    file: &SystemFile,
    paths: &InstancePaths,
    run: &dyn ProgramRunner,
) -> Result<()> {
    let doing = || format!("write {}", file.path.display());
    if file.kind == FileKind::Sudoers {
        let visudo = first_existing(tools::VISUDO).ok_or_else(|| {
            Problem::new("visudo is not installed, so nothing is written into sudoers.d")
                .with_hint("install sudo, or set `passwordless = false` in [run]")
        })?;
        let draft = paths.staging_dir().join("sudoers");
        edit::write_file(&draft, file.text.as_bytes(), 0o400, Some((0, 0))).with_context(doing)?;
        let checked = run
            .run_program(&[visudo, "-cf", &draft.display().to_string()])
            .context("ask visudo");
        edit::remove_path(&draft).with_context(doing)?;
        let checked = checked?;
        if checked.status != 0 {
            return Err(Problem::new(format!(
                "visudo refuses the rule: {}",
                crate::text::escape_text(checked.stderr.trim())
            )));
        }
    }
    edit::write_file(
        &file.path,
        file.text.as_bytes(),
        file.kind.file_mode(),
        Some((0, 0)),
    )
    .with_context(doing)?;
    if file.kind == FileKind::Unit {
        // What `systemctl enable` does, on a machine that has not been booted with systemd too.
        let wants = wants_link(&file.path)?;
        if let Some(folder) = wants.parent() {
            edit::make_dir(folder, 0, 0, 0o755).with_context(doing)?;
        }
        edit::set_link(&wants, &file.path, None).with_context(doing)?;
        reload_systemd(run)?;
    }
    Ok(())
}

/// # Errors
/// The disk.
pub(crate) fn remove_file(kind: FileKind, path: &Path, run: &dyn ProgramRunner) -> Result<()> {
    let doing = || format!("remove {}", path.display());
    if kind == FileKind::Unit {
        edit::remove_link(&wants_link(path)?, path).with_context(doing)?;
    }
    if kind == FileKind::Daemon {
        boot_out(path, run)?;
    }
    edit::remove_path(path).with_context(doing)?;
    if kind == FileKind::Unit {
        reload_systemd(run)
    } else {
        Ok(())
    }
}

/// Ends a daemon that launchd has started from this file, which would otherwise start it again until
/// the Mac is restarted.
fn boot_out(path: &Path, run: &dyn ProgramRunner) -> Result<()> {
    // launchctl's own numbers: there is no such service, as before the first restart.
    const NOT_LOADED: [i32; 2] = [3, 113];
    let Some(target) = launchd_target(path) else {
        return Ok(());
    };
    let out = run
        .run_program(&[tools::LAUNCHCTL, "bootout", &target])
        .with_context(|| format!("end {target}"))?;
    if out.status == 0 || NOT_LOADED.contains(&out.status) {
        return Ok(());
    }
    Err(Problem::new(format!(
        "launchctl bootout {target} exited with {}: {}",
        out.status,
        crate::text::escape_text(out.stderr.trim())
    ))
    .with_hint(format!("run it yourself: sudo launchctl bootout {target}")))
}

fn wants_link(unit: &Path) -> Result<std::path::PathBuf> {
    let both = unit.parent().zip(unit.file_name());
    both.map(|(folder, name)| folder.join("multi-user.target.wants").join(name))
        .ok_or_else(|| Problem::new(format!("{} is not a unit", unit.display())))
}

/// Puts `user` into a file with a name a line, or takes it out; owner and mode stay.
///
/// # Errors
/// It is no plain file; the disk.
pub(crate) fn edit_list(file: &Path, user: &str, on: bool) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let doing = || format!("write {}", file.display());
    let (text, perm, own) = match file.symlink_metadata() {
        Ok(m) if m.is_file() => (
            std::fs::read_to_string(file).with_context(doing)?,
            m.mode() & 0o7777,
            (m.uid(), m.gid()),
        ),
        Ok(_) => {
            return Err(
                Problem::new(format!("{} is not a regular file", file.display()))
                    .with_hint("put the real file there"),
            );
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => (String::new(), 0o644, (0, 0)),
        Err(e) => return Err(e).with_context(doing),
    };
    let mut lines: Vec<&str> = text.lines().filter(|l| l.trim() != user).collect();
    lines.extend(on.then_some(user));
    let open_without = operating_system().is_macos() || Path::new("/etc/debian_version").exists();
    if lines.is_empty() && file.ends_with("cron.deny") && open_without {
        // Where everybody may without it; elsewhere an empty one is what lets them.
        return edit::remove_path(file).with_context(doing);
    }
    let text: String = lines.iter().flat_map(|l| [*l, "\n"]).collect();
    edit::write_file(file, text.as_bytes(), perm, Some(own)).map_err(|e| {
        let p = Problem::new(format!("{}: {e}", doing())).caused_by(&e);
        // macOS protects folders beside it from everybody without that permission, root too.
        if e.kind() == std::io::ErrorKind::PermissionDenied && file.starts_with("/private/var/at") {
            p.with_hint(crate::host::accounts::macos::FULL_DISK_ACCESS)
        } else {
            p
        }
    })
}

/// Has systemd read its units again, where it runs (sd_booted(3)).
fn reload_systemd(run: &dyn ProgramRunner) -> Result<()> {
    let booted = Path::new("/run/systemd/system").is_dir();
    let Some(systemctl) = first_existing(tools::SYSTEMCTL).filter(|_| booted) else {
        return Ok(());
    };
    let out = run
        .run_program(&[systemctl, "daemon-reload"])
        .context("have systemd read its units again")?;
    if out.status == 0 {
        Ok(())
    } else {
        Err(Problem::new(format!(
            "systemctl daemon-reload: {}",
            crate::text::escape_text(out.stderr.trim())
        )))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::host::process::ProgramOutput;
    use std::sync::Mutex;

    /// Answers every call in the same way, and remembers the calls.
    struct Launchd(ProgramOutput, Mutex<Vec<String>>);

    impl ProgramRunner for Launchd {
        fn run_program(&self, argv: &[&str]) -> std::io::Result<ProgramOutput> {
            self.1.lock().unwrap().push(argv.join(" "));
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_daemon_ends_before_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("comfy.comfyui_sandbox.plist");
        let remove = |status, stderr: &str| {
            std::fs::write(&file, "").unwrap();
            let out = ProgramOutput {
                status,
                stderr: stderr.into(),
                ..ProgramOutput::default()
            };
            let launchd = Launchd(out, Mutex::default());
            let done = remove_file(FileKind::Daemon, &file, &launchd);
            (done, launchd.1.into_inner().unwrap(), file.exists())
        };
        let calls = ["/bin/launchctl bootout system/comfy.comfyui_sandbox"];
        let (done, called, left) = remove(0, "");
        assert!(done.is_ok() && !left);
        assert_eq!(called, calls);
        // Before the first restart launchd does not know it.
        let absent = "Boot-out failed: 3: No such process\n";
        assert!(matches!(remove(3, absent), (Ok(()), _, false)));
        let (done, _, left) = remove(5, "Boot-out failed: 5: Input/output error\n");
        assert!(left, "a daemon that runs keeps its file");
        insta::assert_snapshot!(done.unwrap_err(), @"launchctl bootout system/comfy.comfyui_sandbox exited with 5: Boot-out failed: 5: Input/output error (hint: run it yourself: sudo launchctl bootout system/comfy.comfyui_sandbox)");
    }
}
