//! The positions of keys in the file, so that every message can give file:line:column.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytestring::ByteString;
use toml_edit::{Document, Item, Value};

use crate::problem::Problem;

/// A TOML file with the positions of its keys.
#[derive(Debug, Clone)]
pub(crate) struct TomlSource {
    pub path: PathBuf,
    /// The text, which is not copied: it may be megabytes.
    pub text: ByteString,
    /// The parsed document, made when the first position is asked for; a file without mistakes
    /// needs none.
    document: OnceLock<Option<Document<String>>>,
    /// The offset of each line, kept because a file may have thousands of mistakes.
    lines: OnceLock<Vec<usize>>,
    /// `hosts.NAME`, searched before the key itself: the machine's own section wins.
    overlay: Option<String>,
}

impl TomlSource {
    pub(crate) fn new(path: &Path, text: &ByteString, overlay: Option<&str>) -> Self {
        TomlSource {
            path: path.to_path_buf(),
            text: text.clone(),
            document: OnceLock::new(),
            lines: OnceLock::new(),
            overlay: overlay.map(str::to_string),
        }
    }

    /// Returns `comfy.toml:12:5` for the key at `path`, or for its nearest existing parent.
    pub(crate) fn place_of_key(&self, path: &[&str]) -> String {
        let own = self
            .overlay
            .as_deref()
            .map(|h| [&["hosts", h][..], path].concat());
        let start = own
            .and_then(|p| self.key_offset(&p, true))
            .or_else(|| self.key_offset(path, false));
        self.place_of_offset(start.unwrap_or(0))
    }

    /// Returns `comfy.toml:12:5` for a byte offset.
    pub(crate) fn place_of_offset(&self, offset: usize) -> String {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let lines = self.lines.get_or_init(|| {
            std::iter::once(0)
                .chain(self.text.match_indices('\n').map(|(at, _)| at + 1))
                .collect()
        });
        let line = lines.partition_point(|start| *start <= offset);
        let column = self.text[lines[line - 1]..offset].chars().count() + 1;
        format!("{}:{line}:{column}", self.file_name())
    }

    /// Returns the folder of the file.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.path.parent()
    }

    /// Returns a problem for the first line that git writes at a conflict.
    pub(crate) fn unresolved_conflict(&self) -> Option<Problem> {
        let line = |begin: &str| self.text.lines().position(|l| l.starts_with(begin));
        let first = line("<<<<<<< ").filter(|_| line(">>>>>>> ").is_some())?;
        Some(Problem::new(format!(
            "{}:{}:1: the file contains an unresolved merge conflict",
            self.file_name(),
            first + 1
        )))
    }

    /// Returns a parse error of a file that comfy writes, with its place; `again`: how to get the file
    /// back.
    pub(crate) fn syntax_problem(&self, e: &toml::de::Error, again: &str) -> Problem {
        if let Some(conflict) = self.unresolved_conflict() {
            return conflict.with_hint(
                "take one side of the file completely, then run `comfy lock`; deleting it would \
                 move every pin",
            );
        }
        let place = self.place_of_offset(e.span().map_or(0, |s| s.start));
        let message = e.message().replace('\n', "; ");
        Problem::new(format!("{place}: {message}")).with_hint(again)
    }

    /// Returns the file's own name, which messages use.
    pub(crate) fn file_name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or(self.path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    fn key_offset(&self, path: &[&str], whole: bool) -> Option<usize> {
        let mut here = TableCursor::Item(
            self.document
                .get_or_init(|| Document::parse(self.text.to_string()).ok())
                .as_ref()?
                .as_item(),
        );
        let mut found = None;
        for key in path {
            let Some((next, at)) = here.child(key) else {
                return if whole { None } else { found };
            };
            here = next;
            found = at.or(found);
        }
        found
    }
}

enum TableCursor<'a> {
    Item(&'a Item),
    Table(&'a toml_edit::Table),
    Value(&'a Value),
}

impl<'a> TableCursor<'a> {
    fn child(&self, key: &str) -> Option<(TableCursor<'a>, Option<usize>)> {
        let value = match self {
            TableCursor::Item(Item::Table(t)) => return table_child(t, key),
            TableCursor::Table(t) => return table_child(t, key),
            TableCursor::Item(Item::ArrayOfTables(a)) => {
                let t = a.get(key.parse::<usize>().ok()?)?;
                return Some((TableCursor::Table(t), t.span().map(|s| s.start)));
            }
            TableCursor::Item(Item::Value(v)) => v,
            TableCursor::Value(v) => v,
            TableCursor::Item(Item::None) => return None,
        };
        match value {
            Value::InlineTable(t) => {
                let v = t.get(key)?;
                Some((
                    TableCursor::Value(v),
                    t.key(key)
                        .and_then(|k| k.span())
                        .or(v.span())
                        .map(|s| s.start),
                ))
            }
            Value::Array(a) => {
                let v = a.get(key.parse::<usize>().ok()?)?;
                Some((TableCursor::Value(v), v.span().map(|s| s.start)))
            }
            _ => None,
        }
    }
}

fn table_child<'a>(t: &'a toml_edit::Table, key: &str) -> Option<(TableCursor<'a>, Option<usize>)> {
    let at = t.key(key).and_then(|k| k.span()).map(|s| s.start);
    let item = t.get(key)?;
    Some((TableCursor::Item(item), at.or(item.span().map(|s| s.start))))
}
