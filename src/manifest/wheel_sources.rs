//! `[python] wheels`: where wheels come from that no index has.

use crate::manifest::names::{is_sha256, normalize_name};
use crate::manifest::values;

/// What comfy.lock calls the index of a package from there.
pub(crate) const WHEELS_INDEX: &str = "wheels";

/// A folder of the owner's, or the address of one wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WheelSource {
    /// An absolute path, or one that begins with `~/`.
    Folder(String),
    Address {
        url: String,
        /// What the file must have; `None`: what it had when it was locked.
        sha256: Option<String>,
        /// The name of the file, as wheels are called.
        file: String,
    },
}

impl WheelSource {
    /// Parses an entry of `wheels`.
    ///
    /// # Errors
    /// Why it is none, for a message that begins with the entry, and what to write.
    pub(crate) fn parse(text: &str) -> Result<WheelSource, (String, &'static str)> {
        let Some((scheme, _)) = text.split_once("://") else {
            let path = text.strip_prefix("~/").or(text.strip_prefix('/'));
            let inner = path.ok_or((
                "is neither a folder nor an address".to_string(),
                "write \"~/wheels\", \"/srv/wheels\" or \"https://…/NAME.whl\"",
            ))?;
            if inner.ends_with(".whl") {
                return Err((
                    "is a file".into(),
                    "write the folder that contains it, alone",
                ));
            }
            if inner.split('/').any(|part| part == "..") || text.contains(['\n', '\0']) {
                return Err(("has `..` or a line break in it".into(), "write it without"));
            }
            return Ok(WheelSource::Folder(text.into()));
        };
        if !matches!(scheme, "http" | "https") {
            return Err(("is not an https:// address".into(), "use https://"));
        }
        values::model_source(text).map_err(|why| (why, "use https://"))?;
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let sha256 = match fragment.strip_prefix("sha256=") {
            None if fragment.is_empty() => None,
            Some(hash) if is_sha256(hash) => Some(hash.to_string()),
            _ => {
                return Err((
                    "has no sha256 after the `#`".into(),
                    "write #sha256= with 64 hexadecimal digits, or nothing: `comfy lock` pins it",
                ));
            }
        };
        let path = url.split('?').next().unwrap_or(url);
        let file = percent_encoding::percent_decode_str(path.rsplit('/').next().unwrap_or(path));
        let file = file.decode_utf8_lossy().into_owned();
        if wheel_package(&file).is_none() || file.contains(['/', '\n']) {
            return Err((
                "is not the address of a wheel".into(),
                "its file is called NAME-VERSION-…-PLATFORM.whl",
            ));
        }
        Ok(WheelSource::Address {
            url: url.into(),
            sha256,
            file,
        })
    }

    /// The entry as comfy.lock has it.
    pub(crate) fn text(&self) -> String {
        match self {
            WheelSource::Folder(path) => path.clone(),
            WheelSource::Address {
                url,
                sha256: Some(hash),
                ..
            } => format!("{url}#sha256={hash}"),
            WheelSource::Address { url, .. } => url.clone(),
        }
    }
}

/// The normalised name and the version of the package in a wheel (the binary distribution format,
/// "File name convention"); `None`: it is no name of a wheel.
pub(crate) fn wheel_package(file: &str) -> Option<(String, &str)> {
    let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
    let word = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._+!".contains(&b))
    };
    ((5..=6).contains(&parts.len()) && parts.iter().all(word))
        .then(|| (normalize_name(parts[0]), parts[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_wheels_is_a_folder_or_the_address_of_a_wheel() {
        let hash = "a".repeat(64);
        let told: Vec<String> = [
            "~/wheels",
            "wheels",
            "~/wheels/a-1-py3-none-any.whl",
            "~/../other",
            "https://host/a-1-py3-none-any.whl",
            &format!("https://host/x/a_b-1%2Bcu128-py3-none-any.whl?x=1#sha256={hash}"),
            "https://host/a-1-py3-none-any.whl#md5=1",
            "https://host/a-1.tar.gz",
            "git+https://host/a-1-py3-none-any.whl",
        ]
        .iter()
        .map(|text| match WheelSource::parse(text) {
            Ok(WheelSource::Folder(path)) => format!("folder {path}"),
            Ok(WheelSource::Address { file, sha256, .. }) => {
                format!(
                    "{file} {}",
                    if sha256.is_some() { "pinned" } else { "open" }
                )
            }
            Err((why, hint)) => format!("{text} {why}: {hint}"),
        })
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        folder ~/wheels
        wheels is neither a folder nor an address: write "~/wheels", "/srv/wheels" or "https://…/NAME.whl"
        ~/wheels/a-1-py3-none-any.whl is a file: write the folder that contains it, alone
        ~/../other has `..` or a line break in it: write it without
        a-1-py3-none-any.whl open
        a_b-1+cu128-py3-none-any.whl pinned
        https://host/a-1-py3-none-any.whl#md5=1 has no sha256 after the `#`: write #sha256= with 64 hexadecimal digits, or nothing: `comfy lock` pins it
        https://host/a-1.tar.gz is not the address of a wheel: its file is called NAME-VERSION-…-PLATFORM.whl
        git+https://host/a-1-py3-none-any.whl is not an https:// address: use https://
        "#);
        let (name, version) = wheel_package("A.b_c-1+cu1-1x-cp312-cp312-linux_x86_64.whl").unwrap();
        assert_eq!((name.as_str(), version), ("a-b-c", "1+cu1"));
    }
}
