//! Where the statements of a TOML text stand, so that it can be edited by whole lines.

use std::ops::Range;

use toml_edit::{Document, Item, Table};

use crate::problem::{Context, Result};

/// A header or a `key = value`, with the lines that it takes.
pub(super) struct Statement {
    /// The whole path of the table or value.
    pub path: Vec<String>,
    pub is_header: bool,
    /// From the start of its first line to the end of its last, with the line break.
    pub lines: Range<usize>,
    /// Of a value, its own bytes.
    pub value: Range<usize>,
}

impl Statement {
    /// Returns whether it is `path`, or below it.
    pub(super) fn is_within(&self, path: &[&str]) -> bool {
        self.path.len() >= path.len() && self.path.iter().zip(path).all(|(a, b)| a == b)
    }
}

/// A text and its statements, in their order.
pub(super) struct Statements<'a> {
    pub text: &'a str,
    pub list: Vec<Statement>,
}

impl<'a> Statements<'a> {
    /// # Errors
    /// The text is not TOML.
    pub(super) fn parse(text: &'a str) -> Result<Statements<'a>> {
        let document = Document::parse(text.to_string()).context("read comfy.toml")?;
        let mut list = Vec::new();
        collect(text, document.as_table(), &mut Vec::new(), &mut list);
        list.sort_by_key(|s| s.lines.start);
        Ok(Statements { text, list })
    }

    /// Returns the end of the block of the statement at `i`: before the next header.
    pub(super) fn end_of_block(&self, i: usize) -> usize {
        let later = self.list.iter().enumerate().skip(i + 1);
        let next = later.clone().find(|(_, s)| s.is_header);
        let last = next.map_or(self.list.len(), |(n, _)| n) - 1;
        self.end_with_comments(last)
    }

    /// Returns where the lines of the statement at `i` end, with the comments directly below it;
    /// those directly above the next statement are that one's.
    pub(super) fn end_with_comments(&self, i: usize) -> usize {
        let mut end = self.list[i].lines.end;
        while is_comment(self.line_at(end)) {
            end += self.line_at(end).len();
        }
        match self.list.get(i + 1) {
            Some(next) if next.lines.start <= end => self.start_with_comments(i + 1),
            _ => end,
        }
    }

    /// Returns where the statement at `i` begins, with the comments directly above it.
    pub(super) fn start_with_comments(&self, i: usize) -> usize {
        let mut start = self.list[i].lines.start;
        while let Some(above) = self
            .line_above(start)
            .filter(|l| is_comment(&self.text[l.clone()]))
        {
            start = above.start;
        }
        start
    }

    /// Returns the line that ends where `at` begins one.
    pub(super) fn line_above(&self, at: usize) -> Option<Range<usize>> {
        let before = self.text[..at].strip_suffix('\n')?;
        Some(before.rfind('\n').map_or(0, |n| n + 1)..at)
    }

    fn line_at(&self, at: usize) -> &str {
        let rest = &self.text[at..];
        &rest[..rest.find('\n').map_or(rest.len(), |n| n + 1)]
    }

    /// Returns the line break of the text.
    pub(super) fn line_break(&self) -> &'static str {
        let first = self.text.find('\n');
        match first {
            Some(n) if self.text[..n].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }
}

pub(super) fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn collect(text: &str, table: &Table, path: &mut Vec<String>, out: &mut Vec<Statement>) {
    if !path.is_empty()
        && !table.is_implicit()
        && !table.is_dotted()
        && let Some(span) = table.span()
    {
        out.push(statement_at(text, path, true, span.start, span));
    }
    for (name, item) in table {
        path.push(name.to_string());
        match item {
            Item::Table(inner) => collect(text, inner, path, out),
            Item::ArrayOfTables(all) => all.iter().for_each(|t| collect(text, t, path, out)),
            Item::Value(value) => {
                let key = table.key(name).and_then(toml_edit::Key::span);
                if let (Some(key), Some(span)) = (key, value.span()) {
                    out.push(statement_at(text, path, false, key.start, span));
                }
            }
            Item::None => {}
        }
        path.pop();
    }
}

fn statement_at(
    text: &str,
    path: &[String],
    is_header: bool,
    from: usize,
    value: Range<usize>,
) -> Statement {
    let start = text[..from].rfind('\n').map_or(0, |n| n + 1);
    let end = text[value.end..]
        .find('\n')
        .map_or(text.len(), |n| value.end + n + 1);
    Statement {
        path: path.to_vec(),
        is_header,
        lines: start..end,
        value,
    }
}
