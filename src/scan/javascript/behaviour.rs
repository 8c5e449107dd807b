//! What calls do together: handlers that send what is typed, storage that is read as a whole,
//! requests that install code, and pages inside of texts.

use oxc_ast::ast::{
    Argument, AssignmentExpression, AssignmentTarget, BindingPattern, CallExpression, Expression,
    ObjectPropertyKind, VariableDeclarator,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::Span;

use super::names::{LONGEST_START, constant_text, dotted_name, start_of_text};
use super::{ScriptScan, is_remote, page, rules};
use crate::scan::carrier;

/// Events that tell what is typed.
const TYPED: &[&str] = &["keydown", "keypress", "keyup"];
/// Addresses at which ComfyUI-Manager installs what it is told.
const INSTALLS: &[&str] = &[
    "/customnode/install",
    "/manager/queue/install",
    "/manager/queue/batch",
    "/v2/manager/queue/install",
    "/v2/manager/queue/task",
    "/v2/manager/queue/batch",
    "/v2/customnode/install",
];
/// Functions that give all that is stored.
const READ_ALL: &[&str] = &[
    "JSON.stringify",
    "Object.entries",
    "Object.values",
    "Object.assign",
    "structuredClone",
];

/// Functions through which the page sends and receives.
const REPLACED: &[&str] = &[
    "fetch",
    "globalThis.fetch",
    "self.fetch",
    "WebSocket",
    "XMLHttpRequest",
    "XMLHttpRequest.prototype.open",
    "XMLHttpRequest.prototype.send",
    "WebSocket.prototype.send",
    "Storage.prototype.setItem",
];

impl<'a> ScriptScan<'_> {
    /// What a call does beside what its name says.
    pub(super) fn check_behaviour(&mut self, call: &CallExpression<'a>, name: Option<&str>) {
        let first = call.arguments.first().and_then(Argument::as_expression);
        let text = first.and_then(|e| self.start_of(e));
        if makes_a_function(&call.callee) && first.and_then(constant_text).is_some() {
            let message = "`constructor` of a function runs a text";
            self.add(&rules::EVAL, call.span, message.to_string());
        }
        let Some(name) = name else {
            return;
        };
        let last = name.rsplit('.').next().unwrap_or(name);
        if READ_ALL.contains(&name) && call.arguments.iter().any(is_storage) {
            let message = "all that the page has stored is read";
            self.add(&rules::TOKEN_READ, call.span, message.to_string());
        }
        if name == "Object.defineProperty" && call.arguments.len() >= 3 {
            let owner = first.and_then(dotted_name).unwrap_or_default();
            let second = call.arguments.get(1).and_then(Argument::as_expression);
            let property = second.and_then(constant_text).unwrap_or_default();
            let full = format!("{owner}.{property}");
            if REPLACED.contains(&full.strip_prefix("window.").unwrap_or(&full)) {
                let message = format!("`{property}` of the page is replaced");
                self.add(&rules::REPLACED, call.span, message);
            }
        }
        match last {
            "getScript" if text.as_deref().is_some_and(is_remote) => {
                let message = super::from_host(&text.unwrap_or_default());
                self.add(&rules::REMOTE_CODE, call.span, message);
            }
            "setAttribute" => {
                let second = call.arguments.get(1).and_then(Argument::as_expression);
                let to = second
                    .and_then(|e| self.start_of(e))
                    .filter(|t| is_remote(t));
                let owner = name.rsplit_once('.').map_or("", |(o, _)| o);
                if let (Some("src"), Some(to)) = (text.as_deref(), to)
                    && (self.scripts.contains(owner) || super::is_script_address(&to))
                {
                    self.add(&rules::REMOTE_CODE, call.span, super::from_host(&to));
                }
            }
            "fetch" | "fetchApi" => self.check_request(call, text.as_deref()),
            "register" if name.ends_with("serviceWorker.register") => {
                let message = "it answers the page's requests, also when the node is gone";
                self.add(&rules::SERVICE_WORKER, call.span, message.to_string());
            }
            "addEventListener" => {
                let handler = call.arguments.get(1).and_then(Argument::as_expression);
                if let (Some(event), Some(handler)) = (text, handler) {
                    self.check_handler(&event, handler, call.span);
                }
            }
            _ => {}
        }
    }

    /// What a text begins with: the expression's constant part, or that of a name.
    pub(super) fn start_of(&self, e: &Expression<'_>) -> Option<String> {
        let known = || self.texts.get(&dotted_name(e)?).cloned();
        start_of_text(e).or_else(known)
    }

    /// Keeps names of constant texts and of scripts, and finds `eval` under another name.
    pub(super) fn note_declared(&mut self, it: &VariableDeclarator<'a>) {
        let Some(value) = &it.init else {
            return;
        };
        match &it.id {
            BindingPattern::BindingIdentifier(id) => self.note_value(id.name.to_string(), value),
            BindingPattern::ObjectPattern(all) => {
                let renamed = all
                    .properties
                    .iter()
                    .find(|p| p.key.static_name().is_some_and(|n| n == "eval"));
                let global = dotted_name(value)
                    .is_some_and(|n| matches!(&*n, "window" | "globalThis" | "self"));
                if let (Some(property), true) = (renamed, global) {
                    let message = "`eval` gets another name";
                    self.add(&rules::EVAL, property.span, message.to_string());
                }
            }
            _ => {}
        }
    }

    fn note_value(&mut self, name: String, value: &Expression<'a>) {
        if let Some(mut text) = constant_text(value) {
            text.truncate(text.floor_char_boundary(LONGEST_START));
            // The short names of a minified script stand for something else in each function.
            let is_minified = name.len() < 3;
            let known = self.texts.get(&name).is_some_and(|known| *known != text);
            if known && is_minified {
                text.clear();
            }
            if !known || is_minified || is_remote(&text) {
                self.texts.insert(name, text);
            }
        } else if let Expression::CallExpression(call) = value.get_inner_expression()
            && dotted_name(&call.callee).is_some_and(|n| n.ends_with(".createElement"))
            && let Some(first) = call.arguments.first().and_then(Argument::as_expression)
            && constant_text(first).is_some_and(|t| t.eq_ignore_ascii_case("script"))
        {
            self.scripts.insert(name);
        }
    }

    /// `name = value`; and functions of the page that are replaced.
    pub(super) fn note_assigned(&mut self, it: &AssignmentExpression<'a>) {
        if let AssignmentTarget::AssignmentTargetIdentifier(id) = &it.left {
            self.note_value(id.name.to_string(), &it.right);
            return;
        }
        let target = it.left.as_simple_assignment_target();
        let Some(member) = target.and_then(|t| t.as_member_expression()) else {
            return;
        };
        let Some(name) = dotted_name(member.object())
            .zip(member.static_property_name())
            .map(|(object, property)| format!("{object}.{property}"))
        else {
            return;
        };
        let name = name.strip_prefix("window.").unwrap_or(&name);
        if REPLACED.contains(&name) {
            let message = format!("`{name}` of the page is replaced");
            self.add(&rules::REPLACED, it.span, message);
        }
    }

    fn check_request(&mut self, call: &CallExpression<'a>, address: Option<&str>) {
        let Some(address) = address else {
            return;
        };
        let path = address.strip_prefix("/api").unwrap_or(address);
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with(['/', '?', '_']);
        let installs = INSTALLS
            .iter()
            .any(|i| path.strip_prefix(i).is_some_and(is_below));
        if installs {
            let message = format!(
                "ComfyUI-Manager is asked: {}",
                crate::text::escape_text(path)
            );
            self.add(&rules::INSTALL_REQUEST, call.span, message);
        }
        let posts = call.arguments.get(1).and_then(Argument::as_expression);
        if path == "/prompt" && posts.is_some_and(is_post) {
            let message = "the workflow is made by the script";
            self.add(&rules::QUEUE_REQUEST, call.span, message.to_string());
        }
    }

    fn check_handler(&mut self, event: &str, handler: &Expression<'a>, span: Span) {
        let mut seen = HandlerCalls::default();
        seen.visit_expression(handler);
        if TYPED.contains(&event) && seen.sends && seen.reads_key {
            let message = "what is typed goes to another server";
            self.add(&rules::KEYLOGGER, span, message.to_string());
        }
        if matches!(event, "copy" | "cut") && seen.sets_wallet {
            let message = "what is copied becomes the address of a wallet";
            self.add(&rules::CLIPBOARD_SWAP, span, message.to_string());
        }
    }

    /// A text that is a page, or a script that another thread gets.
    pub(super) fn check_text(&mut self, text: &str, span: Span) {
        let fetches = text.contains("importScripts(") && text.contains("http");
        if fetches {
            let message = "a text that is run as a worker loads code";
            self.add(&rules::REMOTE_CODE, span, message.to_string());
        }
        let handler = text.contains('<')
            && [
                " onerror=",
                " onload=",
                "<script",
                "javascript:",
                " srcdoc=",
            ]
            .iter()
            .any(|h| text.contains(h));
        if !handler {
            return;
        }
        let found = page::scan_page(self.path, text);
        for f in found
            .into_iter()
            .filter(|f| f.rule != &carrier::rules::UNPARSEABLE)
        {
            self.add(
                f.rule,
                span,
                format!("in a text that is a page: {}", f.message),
            );
        }
    }
}

/// Whether the callee is `x.constructor` of what is surely a function.
fn makes_a_function(callee: &Expression<'_>) -> bool {
    let Some((object, property)) = member_of(callee) else {
        return false;
    };
    if property != "constructor" {
        return false;
    }
    match object.get_inner_expression() {
        Expression::FunctionExpression(_) | Expression::ArrowFunctionExpression(_) => true,
        // `x.constructor.constructor`, `[].filter.constructor`
        object => member_of(object).is_some_and(|(base, name)| {
            name == "constructor"
                || matches!(
                    base.get_inner_expression(),
                    Expression::ArrayExpression(_) | Expression::StringLiteral(_)
                )
        }),
    }
}

fn member_of<'e, 'a>(e: &'e Expression<'a>) -> Option<(&'e Expression<'a>, String)> {
    match e.get_inner_expression() {
        Expression::StaticMemberExpression(m) => Some((&m.object, m.property.name.to_string())),
        Expression::ComputedMemberExpression(m) => Some((&m.object, constant_text(&m.expression)?)),
        _ => None,
    }
}

fn is_storage(argument: &Argument<'_>) -> bool {
    argument
        .as_expression()
        .and_then(dotted_name)
        .is_some_and(|n| matches!(&*n, "localStorage" | "sessionStorage"))
}

/// `{ method: "POST", … }`
fn is_post(options: &Expression<'_>) -> bool {
    let Expression::ObjectExpression(object) = options.get_inner_expression() else {
        return false;
    };
    object.properties.iter().any(|p| match p {
        ObjectPropertyKind::ObjectProperty(p) => {
            p.key.static_name().is_some_and(|n| n == "method")
                && constant_text(&p.value).is_some_and(|v| v.eq_ignore_ascii_case("post"))
        }
        ObjectPropertyKind::SpreadProperty(_) => false,
    })
}

/// Whether a text is the address of a wallet: Ethereum's, or Bitcoin's.
fn is_wallet(text: &str) -> bool {
    let hex = text
        .strip_prefix("0x")
        .is_some_and(|rest| rest.len() == 40 && rest.chars().all(|c| c.is_ascii_hexdigit()));
    let segwit = text.starts_with("bc1") && text.len() >= 26;
    let legacy = text.starts_with(['1', '3', 'T'])
        && (26..=35).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric());
    hex || segwit || legacy
}

/// What a handler calls and reads.
#[derive(Debug, Default)]
struct HandlerCalls {
    sends: bool,
    reads_key: bool,
    sets_wallet: bool,
}

impl<'a> Visit<'a> for HandlerCalls {
    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        let text = |at: usize| {
            let argument = call.arguments.get(at).and_then(Argument::as_expression);
            argument.and_then(start_of_text)
        };
        self.sends |= text(0).is_some_and(|t| is_remote(&t));
        let sets = member_of(&call.callee).is_some_and(|(_, name)| name == "setData");
        self.sets_wallet |= sets && text(1).is_some_and(|t| is_wallet(&t));
        walk::walk_call_expression(self, call);
    }

    fn visit_expression(&mut self, e: &Expression<'a>) {
        self.reads_key |=
            member_of(e).is_some_and(|(_, name)| matches!(&*name, "key" | "keyCode" | "code"));
        walk::walk_expression(self, e);
    }
}
