//! What expressions of a script are called: dotted names, and constant texts.

use std::borrow::Cow;

use oxc_ast::ast::{CallExpression, Expression, TemplateElement};
use oxc_ast_visit::{Visit, walk};

/// What a script may write before the name of anything global.
const GLOBALS: [&str; 5] = ["window", "globalThis", "self", "top", "parent"];

/// Whether the last part of the name of what is called can be one of `names`; a part that is put
/// together can be anything. Most calls are of nothing that a rule speaks of, and then their names
/// need not be made.
pub(super) fn is_called_like(e: &Expression<'_>, names: &[&str]) -> bool {
    match e.get_inner_expression() {
        Expression::Identifier(id) => names.contains(&id.name.as_str()),
        Expression::StaticMemberExpression(m) => names.contains(&m.property.name.as_str()),
        Expression::SequenceExpression(_) | Expression::ComputedMemberExpression(_) => true,
        _ => false,
    }
}

/// Whether a member of `document`, `localStorage` or `sessionStorage` can be meant.
pub(super) fn may_read_store(e: &Expression<'_>) -> bool {
    if !e.is_member_expression() {
        return false;
    }
    let mut here = e;
    for _ in 0..MOST_NAMES {
        here = match here.get_inner_expression() {
            Expression::StaticMemberExpression(m) => &m.object,
            Expression::ComputedMemberExpression(m) => &m.object,
            Expression::Identifier(id) => {
                let stores = ["document", "localStorage", "sessionStorage"];
                let name = id.name.as_str();
                return stores.contains(&name) || GLOBALS.contains(&name);
            }
            Expression::SequenceExpression(_) => return true,
            _ => return false,
        };
    }
    true
}

/// Parts of a name that are read, from its end.
const MOST_NAMES: usize = 512;
/// Parts of a text that is put together.
const MOST_TEXTS: usize = 10_000;

/// The name of what is called or read, `a.b.c`, without `window`; constant parts of `a['b']` too.
/// Of one that is longer than anybody's only its end.
pub(super) fn dotted_name(e: &Expression<'_>) -> Option<String> {
    let mut parts: Vec<Cow<'_, str>> = Vec::new();
    let mut here = e;
    while parts.len() < MOST_NAMES {
        here = match here.get_inner_expression() {
            Expression::Identifier(id) => {
                parts.push(id.name.as_str().into());
                break;
            }
            // `(0, eval)(x)` calls eval in the global scope.
            Expression::SequenceExpression(s) => s.expressions.last()?,
            Expression::StaticMemberExpression(m) => {
                parts.push(m.property.name.as_str().into());
                &m.object
            }
            Expression::ComputedMemberExpression(m) => {
                parts.push(constant_text(&m.expression)?.into());
                &m.object
            }
            _ => return None,
        };
    }
    while parts.len() > 1 && parts.last().is_some_and(|p| GLOBALS.contains(&&**p)) {
        parts.pop();
    }
    parts.reverse();
    Some(parts.join("."))
}

/// The text of a constant expression.
pub(super) fn constant_text(e: &Expression<'_>) -> Option<String> {
    let (mut left, mut text) = (MOST_TEXTS, String::new());
    let mut open = vec![e];
    while let Some(part) = open.pop() {
        left = left.checked_sub(1)?;
        match part.get_inner_expression() {
            Expression::StringLiteral(s) => text += s.value.as_str(),
            Expression::TemplateLiteral(t) if t.expressions.is_empty() => {
                text += cooked(t.quasis.first()?);
            }
            Expression::BinaryExpression(b) if b.operator.as_str() == "+" => {
                open.push(&b.right);
                open.push(&b.left);
            }
            _ => return None,
        }
    }
    Some(text)
}

/// A part of a template as it is once its escapes are read.
pub(super) fn cooked<'e>(part: &'e TemplateElement<'_>) -> &'e str {
    part.value
        .cooked
        .as_ref()
        .unwrap_or(&part.value.raw)
        .as_str()
}

/// What a text begins with: its constant part on the left.
pub(super) fn start_of_text(e: &Expression<'_>) -> Option<String> {
    if let Some(text) = constant_text(e) {
        return Some(text);
    }
    // The sums on the left, the innermost last: what they begin with is constant the longest.
    let mut sums = Vec::new();
    let mut here = e;
    while let Expression::BinaryExpression(b) = here.get_inner_expression() {
        if b.operator.as_str() != "+" {
            return None;
        }
        sums.push(&b.right);
        here = &b.left;
    }
    let mut text = match here.get_inner_expression() {
        Expression::TemplateLiteral(t) if !t.expressions.is_empty() => {
            return Some(cooked(t.quasis.first()?).to_string()).filter(|s| !s.is_empty());
        }
        _ => constant_text(here)?,
    };
    for part in sums.into_iter().rev() {
        match constant_text(part) {
            Some(more) if text.len() < LONGEST_START => text += &more,
            _ => break,
        }
    }
    Some(text)
}

/// Bytes of a text's beginning: an address needs no more.
pub(super) const LONGEST_START: usize = 4096;

/// Whether a call that decodes text is in the expression.
pub(super) fn decodes_text(e: &Expression<'_>) -> bool {
    struct Decoders(bool);
    impl<'a> Visit<'a> for Decoders {
        fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
            const NAMES: &[&str] = &[
                "atob",
                "unescape",
                "decodeURIComponent",
                "String.fromCharCode",
            ];
            let name = dotted_name(&call.callee);
            self.0 |= name.is_some_and(|n| NAMES.contains(&n.as_str()));
            walk::walk_call_expression(self, call);
        }
    }
    let mut decoders = Decoders(false);
    decoders.visit_expression(e);
    decoders.0
}
