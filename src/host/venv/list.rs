//! What packages say of themselves: the wheels' own records, which their hashes in the lock cover.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::host::listed::Item;

/// What a package is, as one value: equal where all its sources and data are. Bytecode is made anew, and uv writes
/// the lines of a RECORD in any order.
pub fn digest(items: &BTreeMap<String, Item>) -> String {
    let sources: BTreeMap<_, _> = items.iter().filter(|(p, _)| !p.ends_with(".pyc") && !p.ends_with(".dist-info/RECORD")).collect();
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(serde_json::to_vec(&sources).unwrap_or_default()))
}

/// The files of a RECORD with hash and size (PyPA's "Recording installed projects"); paths are relative to `site`, as are
/// the results, normalised to the folder of the virtual environment. Lines without a hash have none here.
pub fn record(text: &str, site: &str) -> Vec<(String, Option<(String, u64)>)> {
    text.lines().filter_map(|line| one(line, site)).collect()
}

fn one(line: &str, site: &str) -> Option<(String, Option<(String, u64)>)> {
    let (rest, size) = line.trim_end().rsplit_once(',')?;
    let (path, hash) = rest.rsplit_once(',')?;
    // A path with a comma or a quote is quoted, as csv does it.
    let path = path.strip_prefix('"').and_then(|p| p.strip_suffix('"')).map_or_else(|| path.to_string(), |p| p.replace("\"\"", "\""));
    let mut parts: Vec<&str> = site.split('/').collect();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()?),
            "" | "." => {}
            p => parts.push(p),
        }
    }
    let known = hash.strip_prefix("sha256=").zip(size.parse().ok()).map(|(h, n)| (h.trim_end_matches('=').to_string(), n));
    (!Path::new(&path).is_absolute()).then(|| (parts.join("/"), known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_from_site_packages_outwards() {
        let text = "a/b.py,sha256=abc=,12\n\"odd, \"\"name\"\".py\",sha256=x,1\n../../../bin/tool,sha256=y,2\na.dist-info/RECORD,,\n/etc/passwd,sha256=z,3\n";
        let found: Vec<String> = record(text, "lib/python3.12/site-packages").iter().map(|(p, h)| format!("{p} {h:?}")).collect();
        insta::assert_snapshot!(found.join("\n"), @r#"
        lib/python3.12/site-packages/a/b.py Some(("abc", 12))
        lib/python3.12/site-packages/odd, "name".py Some(("x", 1))
        bin/tool Some(("y", 2))
        lib/python3.12/site-packages/a.dist-info/RECORD None
        "#);
    }
}
