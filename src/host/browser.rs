//! The owner's browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::env;
use super::fs::edit;
use super::machine::operating_system;
use super::tools::{self, first_existing};
use crate::problem::{Context, Problem, Result};

/// Hands an address to it; false where this session has none.
///
/// # Errors
/// The program that knows the browser cannot be started.
pub(crate) fn open_url(url: &str) -> Result<bool> {
    match browser_program() {
        Some(program) => start_browser(program, url.as_ref()),
        None => Ok(false),
    }
}

/// The same for an address with a secret: through a page that only this user can read, since
/// everybody can read command lines. The next one takes its place; its ticket is used up by then, or
/// too old.
///
/// # Errors
/// As [`open_url`], and the disk.
pub(crate) fn open_in_secret(url: &str) -> Result<bool> {
    let Some(program) = browser_program() else {
        return Ok(false);
    };
    let folder = env::cache_home()
        .ok_or_else(|| Problem::new("HOME is not set, so there is no place for a private page"))?;
    let page = folder.join("open.html");
    std::fs::create_dir_all(&folder)
        .and_then(|()| edit::write_file(&page, page_text(url).as_bytes(), 0o600, None))
        .with_context(|| format!("write {}", page.display()))?;
    start_browser(program, &page)
}

/// Whether the browser runs in Windows, beside this system (WSL).
pub(crate) fn is_of_windows() -> bool {
    env::var("WSL_DISTRO_NAME").is_some()
}

/// Goes to `url` at once. The address is comfy's own: digits, letters, and what stands between.
fn page_text(url: &str) -> String {
    let plain: String = url
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "/:.?=[]-".contains(*c))
        .collect();
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta http-equiv=\"refresh\" content=\"0; url={plain}\">\n<title>ComfyUI</title>\n\
         <p>If this page stays, run <code>comfy open</code> again.\n"
    )
}

/// The program that knows the browser, if this session has one.
fn browser_program() -> Option<PathBuf> {
    let mac = operating_system().is_macos();
    let session = mac || env::var("DISPLAY").is_some() || env::var("WAYLAND_DISPLAY").is_some();
    let candidates = if mac { &[tools::OPEN] } else { tools::XDG_OPEN };
    first_existing(candidates)
        .filter(|_| session)
        .map(tools::located)
}

#[expect(
    clippy::disallowed_methods,
    reason = "as the owner, in the owner's own session"
)]
fn start_browser(program: PathBuf, what: &Path) -> Result<bool> {
    let shown = program.display().to_string();
    let status = Command::new(program)
        .arg(what)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("start {shown}"))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_leads_to_its_address_and_holds_nothing_else() {
        let url = "http://127.0.0.1:8188/?ticket=1764000000.ab01.ff\"><script>alert(1)</script>";
        insta::assert_snapshot!(page_text(url), @r#"
        <!doctype html>
        <meta charset="utf-8">
        <meta name="referrer" content="no-referrer">
        <meta http-equiv="refresh" content="0; url=http://127.0.0.1:8188/?ticket=1764000000.ab01.ffscriptalert1/script">
        <title>ComfyUI</title>
        <p>If this page stays, run <code>comfy open</code> again.
        "#);
    }
}
