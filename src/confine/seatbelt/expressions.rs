//! Reads a profile as what it is, S-expressions, so that tests can check it.

use std::collections::BTreeSet;

/// One expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// A name, a number, or what follows `'`.
    Atom(String),
    Text(String),
    List(Vec<Expression>),
}

/// Reads every expression of a profile.
///
/// # Errors
/// A parenthesis or a text that does not end, or a character that no profile needs.
pub(super) fn read_all(profile: &str) -> Result<Vec<Expression>, String> {
    let mut open: Vec<Vec<Expression>> = vec![Vec::new()];
    let mut rest = profile;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let one = match c {
            ' ' | '\n' => continue,
            ';' => {
                rest = rest.split_once('\n').map_or("", |(_, after)| after);
                continue;
            }
            '(' => {
                open.push(Vec::new());
                continue;
            }
            ')' => Expression::List(open.pop().ok_or("a list that did not begin ends")?),
            '"' => {
                let (text, after) = rest.split_once('"').ok_or("a text does not end")?;
                rest = after;
                Expression::Text(text.into())
            }
            // A text with backslashes as they are: a regular expression.
            '#' if rest.starts_with('"') => continue,
            c if c.is_ascii_alphanumeric() || "-*'".contains(c) => {
                let end = |c: char| !(c.is_ascii_alphanumeric() || "-*?_".contains(c));
                let (more, after) = rest.split_at(rest.find(end).unwrap_or(rest.len()));
                rest = after;
                Expression::Atom(format!("{c}{more}"))
            }
            c => return Err(format!("{c:?} is in no profile")),
        };
        open.last_mut()
            .ok_or("a list that did not begin ends")?
            .push(one);
    }
    match <[Vec<Expression>; 1]>::try_from(open) {
        Ok([all]) => Ok(all),
        Err(open) => Err(format!("{} lists do not end", open.len().saturating_sub(1))),
    }
}

impl Expression {
    /// Calls `each` with every list, outermost first.
    pub(super) fn for_each_list(&self, each: &mut dyn FnMut(&[Expression])) {
        if let Expression::List(items) = self {
            each(items);
            items.iter().for_each(|i| i.for_each_list(each));
        }
    }

    fn is_atom(&self, name: &str) -> bool {
        matches!(self, Expression::Atom(a) if a == name)
    }
}

/// The parameters that a profile names.
pub(super) fn parameters(all: &[Expression]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut each = |items: &[Expression]| {
        if let [name, Expression::Text(text)] = items
            && name.is_atom("param")
        {
            out.insert(text.clone());
        }
    };
    all.iter().for_each(|e| e.for_each_list(&mut each));
    out
}

/// Paths that are written in the profile, after the names of filters that take one.
pub(super) fn written_paths(all: &[Expression]) -> BTreeSet<String> {
    let filters = ["literal", "subpath", "path-ancestors"];
    let mut out = BTreeSet::new();
    let mut each = |items: &[Expression]| {
        if let [name, Expression::Text(text), ..] = items
            && filters.iter().any(|f| name.is_atom(f))
        {
            out.insert(text.clone());
        }
    };
    all.iter().for_each(|e| e.for_each_list(&mut each));
    out
}

#[test]
fn the_reader_finds_what_is_wrong_with_a_profile() {
    let told = |text: &str| read_all(text).map_or_else(|why| why, |all| all.len().to_string());
    let all = [
        "(version 1)\n(deny default) ; a comment (\n",
        "(allow file-read* (literal \"/\")",
        "(allow default))",
        "(literal \"/a)",
        "(allow {})",
        "(regex #\"^/(a|b)[0-9]+$\")",
    ];
    insta::assert_snapshot!(all.map(told).join("\n"), @"
    2
    1 lists do not end
    a list that did not begin ends
    a text does not end
    '{' is in no profile
    1
    ");
}
