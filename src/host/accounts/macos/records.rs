//! Records of the directory and lines of an access list, as the tools print them.

use super::{DSCL, REAL_NAME, unknown};
use crate::plan::observed::Seen;
use crate::text::escape_text;

/// One record of the local node: `/Users/NAME` or `/Groups/NAME`.
#[derive(Debug)]
pub(super) struct DirectoryRecord {
    pub(super) path: String,
    pub(super) keys: plist::Dictionary,
}

impl DirectoryRecord {
    pub(super) fn parse_plist(path: String, xml: &str) -> Seen<DirectoryRecord> {
        match plist::Value::from_reader_xml(xml.as_bytes()).map(plist::Value::into_dictionary) {
            Ok(Some(keys)) => Ok(DirectoryRecord { path, keys }),
            Ok(None) => Err(unknown(
                &path,
                "dscl printed a property list that is not a record",
            )),
            Err(e) => Err(unknown(
                &path,
                &format!(
                    "dscl printed no property list: {}",
                    escape_text(&e.to_string())
                ),
            )),
        }
    }

    /// The values of a standard attribute; none where the record lacks it.
    pub(super) fn all_values(&self, key: &str) -> Seen<Vec<&str>> {
        let Some(value) = self
            .keys
            .get(&format!("dsAttrTypeStandard:{key}"))
            .or_else(|| self.keys.get(key))
        else {
            return Ok(Vec::new());
        };
        let strings = value
            .as_array()
            .and_then(|values| values.iter().map(plist::Value::as_string).collect());
        strings.ok_or_else(|| unknown(&self.path, &format!("{key} is not a list of strings")))
    }

    /// Returns whether it is an account that comfy began to make, and did not finish: the uid is what
    /// [`AccountDatabase::create_user`](crate::host::accounts::AccountDatabase::create_user) writes
    /// last.
    pub(super) fn is_unfinished(&self) -> Seen<bool> {
        let is_empty = |key: &str| Ok(self.all_values(key)?.is_empty());
        let bare = || -> Seen<bool> {
            Ok(is_empty("RealName")? && is_empty("UserShell")? && is_empty("PrimaryGroupID")?)
        };
        Ok(is_empty("UniqueID")? && (self.all_values("RealName")? == [REAL_NAME] || bare()?))
    }

    pub(super) fn first_value(&self, key: &str) -> Seen<&str> {
        let why = format!(
            "the record has no {key}; an apply that was cut short leaves such a record: if comfy \
             made it, `sudo {DSCL} . -delete {}`",
            self.path
        );
        self.all_values(key)?
            .first()
            .copied()
            .ok_or_else(|| unknown(&self.path, &why))
    }

    pub(super) fn id_value(&self, key: &str) -> Seen<u32> {
        let text = self.first_value(key)?;
        parse_id(text).ok_or_else(|| {
            unknown(
                &self.path,
                &format!("{key} is `{}`, which is not an id", escape_text(text)),
            )
        })
    }
}

/// An id; Directory Services writes some as negative (`nobody` is -2), the kernel has them unsigned.
pub(super) fn parse_id(text: &str) -> Option<u32> {
    let id = text
        .parse::<u32>()
        .or_else(|_| text.parse::<i32>().map(i32::cast_unsigned));
    id.ok()
}

/// One line of `ls -le` below the first: ` 0: user:alice inherited allow list,search,file_inherit`
/// (`ls/print.c`, printacl).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MacAclEntry {
    pub(super) who: String,
    pub(super) allow: bool,
    /// It decides about search on the folder itself; an `only_inherit` entry is for what is made in
    /// it.
    pub(super) search: bool,
}

impl MacAclEntry {
    pub(super) fn parse_line(line: &str) -> Option<MacAclEntry> {
        let (index, rest) = line.trim_start().split_once(": ")?;
        index.parse::<u32>().ok()?;
        // Names may hold spaces, words of rights do not: read from the end.
        let (rest, rights) = rest.rsplit_once(' ')?;
        let (who, verb) = rest.rsplit_once(' ')?;
        let allow = match verb {
            "allow" => true,
            "deny" => false,
            _ => return None,
        };
        let has = |word| rights.split(',').any(|r| r == word);
        Some(MacAclEntry {
            who: who.strip_suffix(" inherited").unwrap_or(who).into(),
            allow,
            search: has("search") && !has("only_inherit"),
        })
    }

    pub(super) fn grants_search(&self, user: &str) -> bool {
        self.allow && self.search && self.who.strip_prefix("user:") == Some(user)
    }
}
