//! How the owner proves their identity if the system does not report the user of a connection
//! (macOS, other machines).
//!
//! The launcher writes a secret that only the owner can read ([`GatewayCredentials`]); the gateway
//! knows it too. From it come:
//!
//! * a **ticket**: valid once and for one minute, in the address that the browser opens. The gateway
//!   answers it with a cookie (HttpOnly, SameSite=Strict) and a redirect that removes it from the
//!   address;
//! * the **bearer token** of this launch, for programs: `Authorization: Bearer …`.
//!
//! Neither reaches ComfyUI: the gateway removes both from what it passes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base16ct::lower::encode_string;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::host::fs::{self, edit};
use crate::problem::{Context, Problem, Result};

/// How long a ticket is valid, in seconds.
const GOOD: u64 = 60;

/// 32 random bytes in hexadecimal, new for each launch.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct LaunchSecret(String);

impl std::fmt::Debug for LaunchSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Returns `n` random bytes in hexadecimal.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn random_hex(n: usize) -> Result<String> {
    let mut bytes = vec![0; n];
    getrandom::fill(&mut bytes).context("get random numbers")?;
    Ok(encode_string(&bytes))
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

impl LaunchSecret {
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<LaunchSecret> {
        random_hex(32).map(LaunchSecret)
    }

    fn hex_mac(&self, what: &str) -> String {
        // HMAC accepts keys of any length (RFC 2104).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else {
            return String::new();
        };
        mac.update(what.as_bytes());
        encode_string(&mac.finalize().into_bytes())
    }

    /// Returns the token for programs, the same for the whole launch.
    pub(crate) fn bearer_token(&self) -> String {
        self.hex_mac("bearer")
    }

    /// Returns what ComfyUI's own port admits, where others could reach it.
    pub(crate) fn inner_token(&self) -> String {
        self.hex_mac("inner port")
    }

    /// Returns a mark of this launch for `purpose`: 16 digits that need not stay secret.
    pub(crate) fn launch_mark(&self, purpose: &str) -> String {
        let mut mac = self.hex_mac(&format!("mark of {purpose}"));
        mac.truncate(16);
        mac
    }

    /// Returns a ticket for the browser: `time.random.mac`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn browser_ticket(&self) -> Result<String> {
        let what = format!("{}.{}", unix_now(), random_hex(16)?);
        Ok(format!("{what}.{}", self.hex_mac(&what)))
    }
}

/// Compares two texts in a time that does not depend on where they differ.
fn constant_time_eq(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |acc, (x, y)| acc | (x ^ y))
            == 0
}

/// What the gateway remembers: used tickets and issued cookies.
pub struct SessionStore {
    secret: LaunchSecret,
    bearer: String,
    used: BTreeMap<String, u64>,
    cookies: Vec<String>,
}

/// The number of browsers of one owner; the oldest must get a new ticket.
const COOKIES: usize = 32;

impl SessionStore {
    pub fn new(secret: LaunchSecret) -> SessionStore {
        SessionStore {
            bearer: secret.bearer_token(),
            secret,
            used: BTreeMap::new(),
            cookies: Vec::new(),
        }
    }

    /// Returns a new cookie for a valid ticket, which is then used up.
    pub(crate) fn redeem_ticket(&mut self, ticket: &str) -> Option<String> {
        self.redeem_at(ticket, unix_now())
    }

    fn redeem_at(&mut self, ticket: &str, now: u64) -> Option<String> {
        let (what, mac) = ticket.rsplit_once('.')?;
        let made: u64 = what.split('.').next()?.parse().ok()?;
        self.used.retain(|_, t| *t + GOOD >= now);
        // The clock is the same machine's, so no ticket is from the future.
        let fresh = made <= now && now - made <= GOOD;
        if !constant_time_eq(mac, &self.secret.hex_mac(what))
            || !fresh
            || self.used.insert(what.into(), made).is_some()
        {
            return None;
        }
        let cookie = random_hex(32).ok()?;
        if self.cookies.len() >= COOKIES {
            self.cookies.remove(0);
        }
        self.cookies.push(cookie.clone());
        Some(cookie)
    }

    /// As [`LaunchSecret::launch_mark`].
    pub(crate) fn launch_mark(&self, purpose: &str) -> String {
        self.secret.launch_mark(purpose)
    }

    pub(crate) fn is_cookie(&self, value: &str) -> bool {
        self.cookies.iter().any(|c| constant_time_eq(c, value))
    }

    pub(crate) fn is_bearer(&self, value: &str) -> bool {
        constant_time_eq(&self.bearer, value)
    }
}

/// The file `records/front.json` of a running launch: how the owner reaches it. Only the owner can
/// read it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct GatewayCredentials {
    /// `http://127.0.0.1:8188`
    pub address: String,
    secret: LaunchSecret,
}

impl GatewayCredentials {
    pub fn new(address: String, secret: LaunchSecret) -> GatewayCredentials {
        GatewayCredentials { address, secret }
    }

    /// Writes it for the owner; root's launcher does this.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn write_for_owner(&self, path: &Path, owner: (u32, u32)) -> Result<()> {
        let text = serde_json::to_vec(self).context("write the gateway's credentials")?;
        edit::write_file(path, &text, 0o400, Some(owner))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Reads it as its `owner`, or as root for that owner.
    ///
    /// # Errors
    /// ComfyUI is not running, or the file cannot be trusted.
    pub(crate) fn read_as_owner(path: &Path, owner: u32) -> Result<GatewayCredentials> {
        if path
            .symlink_metadata()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            return Err(
                Problem::new("ComfyUI is not running").with_hint("start it with `comfy run`")
            );
        }
        let text = fs::read_trusted(path, &[owner])?;
        serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))
    }

    /// Returns a one-time address for a browser, valid for one minute. If the system reports the
    /// owner's uid, the address works without the ticket too.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn open_url(&self) -> Result<String> {
        Ok(format!(
            "{}/?ticket={}",
            self.address,
            self.secret.browser_ticket()?
        ))
    }

    /// Returns what a program sends as `Authorization: Bearer …`.
    pub fn authorization_header(&self) -> String {
        self.secret.bearer_token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_a_minute() {
        let secret = LaunchSecret::new().unwrap();
        let mut desk = SessionStore::new(secret.clone());
        let ticket = secret.browser_ticket().unwrap();
        let cookie = desk.redeem_ticket(&ticket).unwrap();
        assert!(desk.is_cookie(&cookie) && !desk.is_cookie("") && !desk.is_cookie(&cookie[1..]));
        assert_eq!(desk.redeem_ticket(&ticket), None, "a second time");
        let late = secret.browser_ticket().unwrap();
        assert_eq!(
            desk.redeem_at(&late, unix_now() + GOOD + 1),
            None,
            "too late"
        );
        let forged = format!("{}.{}.{}", unix_now(), "0".repeat(32), "0".repeat(64));
        for bad in [
            forged.as_str(),
            "",
            ".",
            "x.y.z",
            &LaunchSecret::new().unwrap().browser_ticket().unwrap(),
        ] {
            assert_eq!(desk.redeem_ticket(bad), None, "{bad}");
        }
        assert!(desk.is_bearer(&secret.bearer_token()) && !desk.is_bearer(""));
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
