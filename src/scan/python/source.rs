//! One file as text, and where things stand in it.

use ruff_text_size::TextSize;

use crate::scan::finding::{Finding, Intent, LONGEST_SNIPPET, Severity};
use crate::scan::lines::LineTable;
use crate::scan::rules::Rule;

/// A file as text.
#[derive(Debug)]
pub(super) struct SourceText {
    pub path: String,
    pub text: String,
    lines: LineTable,
}

impl SourceText {
    pub(super) fn new(path: &str, text: String) -> SourceText {
        SourceText {
            path: path.to_string(),
            lines: LineTable::of_python(&text),
            text,
        }
    }

    /// Line and column, each from 1; the column in characters.
    pub(super) fn position(&self, offset: u32) -> (u32, u32) {
        let offset = offset as usize;
        let line = self.lines.line_of(offset) + 1;
        let column = self.lines.characters_before(&self.text, offset) + 1;
        (
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }

    /// The line that holds `offset`, or the part of a long one around it.
    pub(super) fn snippet(&self, offset: u32) -> String {
        let range = self.lines.range_of(self.lines.line_of(offset as usize));
        let at = (offset as usize).saturating_sub(range.start);
        let whole = self.text.get(range).unwrap_or("");
        let whole = whole.trim_end_matches(['\n', '\r']);
        if whole.len() <= LONGEST_SNIPPET {
            return whole.to_string();
        }
        let from = if at + 40 < LONGEST_SNIPPET {
            0
        } else {
            at.saturating_sub(40)
        };
        let from = ceil(whole, from);
        let to = floor(whole, from + LONGEST_SNIPPET);
        whole[from..to].to_string()
    }

    /// A finding at `offset`.
    pub(super) fn finding(&self, rule: &'static Rule, offset: u32, message: String) -> Finding {
        let (line, column) = self.position(offset);
        Finding {
            rule,
            severity: rule.severity,
            intent: rule.intent,
            path: self.path.clone(),
            line,
            column,
            message,
            snippet: self.snippet(offset),
            steps: Vec::new(),
            file_hash: String::new(),
        }
    }
}

/// What a rule says of a place.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub rule: &'static Rule,
    pub severity: Severity,
    pub intent: Option<Intent>,
    pub message: String,
}

impl Hit {
    pub(super) fn of(rule: &'static Rule, message: impl Into<String>) -> Hit {
        Hit {
            rule,
            severity: rule.severity,
            intent: rule.intent,
            message: message.into(),
        }
    }

    pub(super) fn at(mut self, severity: Severity) -> Hit {
        self.severity = severity;
        self
    }

    pub(super) fn with_intent(mut self, intent: Intent) -> Hit {
        self.intent = Some(intent);
        self
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

pub(super) fn offset_of(size: TextSize) -> u32 {
    size.to_u32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_lf_cr_or_both_and_columns_are_characters() {
        let source = SourceText::new("a.py", "a\r\nb\rcä = 1\n".to_string());
        assert_eq!(source.position(0), (1, 1));
        assert_eq!(source.position(3), (2, 1));
        let offset = u32::try_from(source.text.find('=').unwrap()).unwrap();
        assert_eq!(source.position(offset), (3, 4));
        assert_eq!(source.snippet(offset), "cä = 1");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("x = 1{}exec(p)", " ".repeat(2000));
        let at = u32::try_from(text.find("exec").unwrap()).unwrap();
        let source = SourceText::new("a.py", text);
        let snippet = source.snippet(at);
        assert!(snippet.len() <= LONGEST_SNIPPET);
        assert!(snippet.contains("exec(p)"), "{snippet}");
    }
}
