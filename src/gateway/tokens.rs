//! How the owner proves to be the owner where the system does not tell whose a connection is
//! (macOS, other machines).
//!
//! The launcher writes a secret that only the owner reads ([`Handle`]); the front knows it too.
//! From it come:
//!
//! * a **ticket**: good once, for a minute, in the address that the browser is sent to. The front
//!   answers it with a cookie (HttpOnly, SameSite=Strict) and a redirect that takes it out of the
//!   address;
//! * the **bearer token** of this launch, for programs: `Authorization: Bearer …`.
//!
//! Neither reaches ComfyUI: the front takes both out of what it passes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base16ct::lower::encode_string;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::host::fs::{self, edit};
use crate::problem::{Doing, Problem, Result};

/// How long a ticket is good, in seconds.
const GOOD: u64 = 60;

/// 32 random bytes in hexadecimal; new at each launch.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// `n` random bytes in hexadecimal.
///
/// # Errors
/// The system has no random numbers.
pub fn random(n: usize) -> Result<String> {
    let mut bytes = vec![0; n];
    getrandom::fill(&mut bytes).doing(|| "get random numbers".into())?;
    Ok(encode_string(&bytes))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

impl Secret {
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Secret> {
        random(32).map(Secret)
    }

    fn mac(&self, what: &str) -> String {
        // HMAC takes keys of any length (RFC 2104).
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()) else {
            return String::new();
        };
        mac.update(what.as_bytes());
        encode_string(&mac.finalize().into_bytes())
    }

    /// The token for programs, the same for the whole launch.
    pub fn bearer(&self) -> String {
        self.mac("bearer")
    }

    /// What else only this launch knows, for `purpose`: 16 digits that may be seen.
    pub fn mark(&self, purpose: &str) -> String {
        let mut mac = self.mac(&format!("mark of {purpose}"));
        mac.truncate(16);
        mac
    }

    /// One for the browser: `time.random.mac`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn ticket(&self) -> Result<String> {
        let what = format!("{}.{}", now(), random(16)?);
        Ok(format!("{what}.{}", self.mac(&what)))
    }
}

/// Two texts, compared in a time that says nothing of where they differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |acc, (x, y)| acc | (x ^ y))
            == 0
}

/// What the front remembers: tickets that were used, cookies that it gave.
pub struct Desk {
    secret: Secret,
    bearer: String,
    used: BTreeMap<String, u64>,
    cookies: Vec<String>,
}

/// Browsers of one owner; the oldest has to ask again.
const COOKIES: usize = 32;

impl Desk {
    pub fn new(secret: Secret) -> Desk {
        Desk {
            bearer: secret.bearer(),
            secret,
            used: BTreeMap::new(),
            cookies: Vec::new(),
        }
    }

    /// A new cookie for a good ticket, which is then good no more.
    pub fn redeem(&mut self, ticket: &str) -> Option<String> {
        self.redeem_at(ticket, now())
    }

    fn redeem_at(&mut self, ticket: &str, now: u64) -> Option<String> {
        let (what, mac) = ticket.rsplit_once('.')?;
        let made: u64 = what.split('.').next()?.parse().ok()?;
        self.used.retain(|_, t| *t + GOOD >= now);
        // The clock of the same machine: nothing is from the future.
        let fresh = made <= now && now - made <= GOOD;
        if !same(mac, &self.secret.mac(what))
            || !fresh
            || self.used.insert(what.into(), made).is_some()
        {
            return None;
        }
        let cookie = random(32).ok()?;
        if self.cookies.len() >= COOKIES {
            self.cookies.remove(0);
        }
        self.cookies.push(cookie.clone());
        Some(cookie)
    }

    /// As [`Secret::mark`].
    pub fn mark(&self, purpose: &str) -> String {
        self.secret.mark(purpose)
    }

    pub fn cookie(&self, value: &str) -> bool {
        self.cookies.iter().any(|c| same(c, value))
    }

    pub fn bearer(&self, value: &str) -> bool {
        same(&self.bearer, value)
    }
}

/// The file `records/front.json` of a running launch: how the owner reaches it. Only the owner can
/// read it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Handle {
    /// `http://127.0.0.1:8188`
    pub address: String,
    secret: Secret,
}

impl Handle {
    pub fn new(address: String, secret: Secret) -> Handle {
        Handle { address, secret }
    }

    /// Leaves it for the owner: root's launcher does.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path, owner: (u32, u32)) -> Result<()> {
        let text = serde_json::to_vec(self).doing(|| "write how the front is reached".into())?;
        edit::write_file(path, &text, 0o400, Some(owner))
            .doing(|| format!("write {}", path.display()))
    }

    /// As its `owner` reads it, or root for that owner.
    ///
    /// # Errors
    /// Nothing runs; the file is not to be trusted.
    pub fn read(path: &Path, owner: u32) -> Result<Handle> {
        if path
            .symlink_metadata()
            .is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
        {
            return Err(Problem::new("ComfyUI does not run").hint("start it with `comfy run`"));
        }
        let text = fs::read_trusted(path, &[owner])?;
        serde_json::from_str(&text).doing(|| format!("understand {}", path.display()))
    }

    /// The address for a browser, good once and for a minute. Where the system tells the owner by
    /// uid it is good without the ticket too.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn open_url(&self) -> Result<String> {
        Ok(format!(
            "{}/?ticket={}",
            self.address,
            self.secret.ticket()?
        ))
    }

    /// What a program sends as `Authorization: Bearer …`.
    pub fn bearer(&self) -> String {
        self.secret.bearer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_a_minute() {
        let secret = Secret::new().unwrap();
        let mut desk = Desk::new(secret.clone());
        let ticket = secret.ticket().unwrap();
        let cookie = desk.redeem(&ticket).unwrap();
        assert!(desk.cookie(&cookie) && !desk.cookie("") && !desk.cookie(&cookie[1..]));
        assert_eq!(desk.redeem(&ticket), None, "a second time");
        let late = secret.ticket().unwrap();
        assert_eq!(desk.redeem_at(&late, now() + GOOD + 1), None, "too late");
        let forged = format!("{}.{}.{}", now(), "0".repeat(32), "0".repeat(64));
        for bad in [
            forged.as_str(),
            "",
            ".",
            "x.y.z",
            &Secret::new().unwrap().ticket().unwrap(),
        ] {
            assert_eq!(desk.redeem(bad), None, "{bad}");
        }
        assert!(desk.bearer(&secret.bearer()) && !desk.bearer(""));
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
