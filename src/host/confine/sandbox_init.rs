//! Applies a Seatbelt profile to this process and all that it starts, for good.
//!
//! `sandbox_init_with_parameters` is not in a header; Chromium (sandbox/mac/seatbelt.cc) and Firefox
//! (security/sandbox/mac/Sandbox.mm) confine their processes with it. It is looked up at run time,
//! so that a macOS without it gives an error, and not a program that does not start.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use nix::libc;

use crate::confine::seatbelt::SeatbeltProfile;
use crate::problem::{Context, Problem, Result};

type SandboxInit = unsafe extern "C" fn(
    profile: *const c_char,
    flags: u64,
    parameters: *const *const c_char,
    error: *mut *mut c_char,
) -> c_int;

/// Confines this process. Where it need not be `required`, returns why it is not.
///
/// # Errors
/// As [`apply_profile`], where `required`.
pub(crate) fn apply_if_possible(
    profile: &SeatbeltProfile,
    required: bool,
) -> Result<Option<Problem>> {
    match apply_profile(profile) {
        Ok(()) => Ok(None),
        Err(p) if !required => Ok(Some(p)),
        Err(p) => Err(p.with_hint(
            "with `confinement = \"warn\"` in [policy] of comfy.toml, comfy goes on all the same",
        )),
    }
}

/// Confines this process.
///
/// # Errors
/// This macOS lacks the function, or does not take the profile; the process is as it was.
fn apply_profile(profile: &SeatbeltProfile) -> Result<()> {
    let what = || "apply the Seatbelt profile".to_string();
    // SAFETY: looks a name up among the libraries that are loaded.
    let found =
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"sandbox_init_with_parameters".as_ptr()) };
    if found.is_null() {
        return Err(Problem::new(
            "this macOS has no sandbox_init_with_parameters, so comfy cannot confine its processes",
        ));
    }
    // SAFETY: this is the function's type in the sources that the module names.
    let sandbox_init: SandboxInit = unsafe { std::mem::transmute(found) };
    let text = CString::new(profile.text.as_str()).with_context(what)?;
    let mut pairs = Vec::new();
    for (name, path) in &profile.values {
        pairs.push(CString::new(name.as_str()).with_context(what)?);
        pairs.push(CString::new(path.as_os_str().as_bytes()).with_context(what)?);
    }
    let mut list: Vec<*const c_char> = pairs.iter().map(|p| p.as_ptr()).collect();
    list.push(std::ptr::null());
    let mut error: *mut c_char = std::ptr::null_mut();
    // SAFETY: texts, list and the place of the error outlive the call; the list ends with a null.
    if unsafe { sandbox_init(text.as_ptr(), 0, list.as_ptr(), &raw mut error) } == 0 {
        return Ok(());
    }
    let why = if error.is_null() {
        std::io::Error::last_os_error().to_string()
    } else {
        // SAFETY: it is a text of the library's, which this process keeps.
        unsafe { CStr::from_ptr(error) }
            .to_string_lossy()
            .into_owned()
    };
    Err(Problem::new(format!(
        "macOS refuses comfy's Seatbelt profile: {}",
        crate::text::escape_text(&why)
    ))
    .with_hint("this is a bug in comfy: please report it with this message"))
}
