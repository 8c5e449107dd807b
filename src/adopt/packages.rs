//! Python packages as `pip freeze` lists them.

use super::Adopted;
use crate::manifest::names::normalize_name;
use crate::text::escape_text;

/// What is in every environment, and what nothing asks for.
const TOOLS: &[&str] = &["pip", "setuptools", "wheel", "uv"];

impl Adopted {
    /// Adds a package at a version.
    pub(crate) fn add_package(&mut self, name: &str, version: &str) {
        let (name, version) = (normalize_name(name.trim()), version.trim());
        let plain = |t: &str| {
            !t.is_empty()
                && t.len() <= 100
                && t.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".-_+!".contains(&b))
        };
        if TOOLS.contains(&name.as_str()) || self.packages.len() >= super::MOST {
            return;
        }
        if !plain(&name) || !plain(version) {
            return self.lose(
                format!(
                    "Python package \"{}\": \"{}\" is no version",
                    escape_text(&name),
                    escape_text(version)
                ),
                "name it in [python] requirements, if ComfyUI or a node needs it",
            );
        }
        self.packages.insert(name, version.to_string());
    }

    /// Adds one line of a freeze. What is no `name==version` is a loss, without its address, which may
    /// hold a password.
    pub(crate) fn add_freeze_line(&mut self, line: &str) {
        let line = line.split(" #").next().unwrap_or(line).trim();
        let line = line.split(';').next().unwrap_or(line).trim();
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        if let Some((name, version)) = line.split_once("==").filter(|(n, _)| !n.contains('@')) {
            let name = name.split('[').next().unwrap_or(name);
            return self.add_package(name, version);
        }
        let name = line
            .strip_prefix("-e ")
            .map_or(line, |l| l.rsplit_once("egg=").map_or("", |(_, n)| n));
        let name: String = name
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
            .collect();
        if name.starts_with('-') {
            return;
        }
        let address = line.split_once(" @ ").map(|(_, address)| address.trim());
        self.lose_address(if name.is_empty() { "one" } else { &name }, address);
    }

    /// A package that came from an address, and from no index. The address of a wheel that has no
    /// password in it is shown.
    pub(crate) fn lose_address(&mut self, name: &str, address: Option<&str>) {
        let is_wheel = |a: &&str| {
            let path = a.split(['#', '?']).next().unwrap_or(a);
            a.starts_with("https://")
                && path.ends_with(".whl")
                && !a.contains(['@', '"', '\\', '?'])
        };
        let way = match address.filter(is_wheel) {
            Some(wheel) => format!("[python] wheels = [\"{}\"]", escape_text(wheel)),
            None => "put its wheel into a folder and name that in [python] wheels".into(),
        };
        self.lose(
            format!(
                "Python package {}: it was installed from an address or a folder, which is not pinned",
                escape_text(name)
            ),
            format!("if ComfyUI or a node needs it: {way}"),
        );
    }
}

/// `3.12` of `3.12.4` or `CPython 3.12.4`.
pub(crate) fn minor_version(text: &str) -> Option<String> {
    let at = text.find(|c: char| c.is_ascii_digit())?;
    let mut parts = text[at..].split('.');
    let major = parts.next()?.parse::<u32>().ok()?;
    let minor: String = parts
        .next()?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    (major == 3 && !minor.is_empty() && minor.len() < 3).then(|| format!("{major}.{minor}"))
}
