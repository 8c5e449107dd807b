//! What expressions of a script are called: dotted names, and constant texts.

use oxc_ast::ast::{CallExpression, Expression};
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
    loop {
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
}

/// The name of what is called or read, `a.b.c`, without `window`; constant parts of `a['b']` too.
pub(super) fn dotted_name(e: &Expression<'_>) -> Option<String> {
    let name = match e.get_inner_expression() {
        Expression::Identifier(id) => id.name.to_string(),
        // `(0, eval)(x)` calls eval in the global scope.
        Expression::SequenceExpression(s) => return dotted_name(s.expressions.last()?),
        Expression::StaticMemberExpression(m) => {
            format!("{}.{}", dotted_name(&m.object)?, m.property.name)
        }
        Expression::ComputedMemberExpression(m) => {
            format!(
                "{}.{}",
                dotted_name(&m.object)?,
                constant_text(&m.expression)?
            )
        }
        _ => return None,
    };
    let mut short = name.as_str();
    while let Some(rest) = GLOBALS
        .iter()
        .find_map(|g| short.strip_prefix(g)?.strip_prefix('.'))
    {
        short = rest;
    }
    Some(short.to_string())
}

/// The text of a constant expression.
pub(super) fn constant_text(e: &Expression<'_>) -> Option<String> {
    match e.get_inner_expression() {
        Expression::StringLiteral(s) => Some(s.value.to_string()),
        Expression::TemplateLiteral(t) if t.expressions.is_empty() => {
            Some(t.quasis.first()?.value.raw.to_string())
        }
        Expression::BinaryExpression(b) if b.operator.as_str() == "+" => {
            Some(constant_text(&b.left)? + &constant_text(&b.right)?)
        }
        _ => None,
    }
}

/// What a text begins with: its constant part on the left.
pub(super) fn start_of_text(e: &Expression<'_>) -> Option<String> {
    if let Some(text) = constant_text(e) {
        return Some(text);
    }
    match e.get_inner_expression() {
        Expression::TemplateLiteral(t) => {
            Some(t.quasis.first()?.value.raw.to_string()).filter(|s| !s.is_empty())
        }
        Expression::BinaryExpression(b) if b.operator.as_str() == "+" => start_of_text(&b.left),
        _ => None,
    }
}

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
