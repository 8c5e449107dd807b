//! JavaScript by syntax tree, without data flow: what the owner's browser would run.

mod behaviour;
mod names;
mod page;
pub(crate) mod rules;

use std::collections::{BTreeMap, BTreeSet};

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    Argument, AssignmentExpression, AssignmentTarget, CallExpression, ExportAllDeclaration,
    ExportFromDeclaration, Expression, ImportDeclaration, ImportExpression, NewExpression,
    StringLiteral, TemplateElement, VariableDeclarator,
};
use oxc_ast_visit::{Visit, walk};
use oxc_parser::Parser;
use oxc_span::{GetSpan, SourceType, Span};

use self::names::{
    cooked, decodes_text, dotted_name, is_called_like, may_read_store, start_of_text,
};
pub(crate) use self::page::scan_page;
use super::carrier;
use super::finding::Finding;
use super::lines::LineTable;
use super::rules::Rule;

/// Scans a script; `first_line` is how many lines stand before it in its file.
pub(crate) fn scan_script(path: &str, text: &str, first_line: u32) -> Vec<Finding> {
    let allocator = Allocator::default();
    let typed = [".ts", ".tsx"]
        .iter()
        .any(|e| path.to_ascii_lowercase().ends_with(e));
    let kinds = if typed {
        [SourceType::ts(), SourceType::tsx()]
    } else {
        [SourceType::mjs(), SourceType::cjs()]
    };
    let mut why = String::new();
    for kind in kinds.map(|k| if typed { k } else { k.with_jsx(true) }) {
        let parsed = Parser::new(&allocator, text, kind).parse();
        if parsed.panicked {
            why = parsed
                .diagnostics
                .iter()
                .next()
                .map(|d| d.to_string())
                .unwrap_or_default();
            continue;
        }
        let mut scan = ScriptScan {
            path,
            text,
            first_line,
            lines: LineTable::of_text(text),
            found: Vec::new(),
            texts: BTreeMap::new(),
            scripts: BTreeSet::new(),
        };
        scan.visit_program(&parsed.program);
        return scan.found;
    }
    vec![carrier::unparseable(
        path,
        &format!(
            "cannot be parsed as JavaScript: {}",
            crate::text::escape_text(&why)
        ),
    )]
}

/// A line without LF, or CR and LF.
fn without_end(line: &str) -> &str {
    let Some(line) = line.strip_suffix('\n') else {
        return line;
    };
    line.strip_suffix('\r').unwrap_or(line)
}

/// The last part of each name that [`ScriptScan::check_call`] speaks of.
const CALLED: &[&str] = &[
    "eval",
    "Function",
    "execScript",
    "setTimeout",
    "setInterval",
    "importScripts",
    "register",
    "fetch",
    "WebSocket",
    "EventSource",
    "sendBeacon",
    "ajax",
    "axios",
    "get",
    "post",
    "put",
    "request",
    "open",
    "readText",
    "read",
    "getItem",
    "stringify",
    "entries",
    "values",
    "assign",
    "structuredClone",
    "defineProperty",
    "getScript",
    "setAttribute",
    "fetchApi",
    "addEventListener",
];

struct ScriptScan<'s> {
    path: &'s str,
    text: &'s str,
    first_line: u32,
    lines: LineTable,
    found: Vec<Finding>,
    /// Names that are constant texts.
    texts: BTreeMap<String, String>,
    /// Names of elements that are scripts.
    scripts: BTreeSet<String>,
}

impl ScriptScan<'_> {
    fn add(&mut self, rule: &'static Rule, span: Span, message: String) {
        let at = (span.start as usize).min(self.text.len());
        let line = self.lines.line_of(at);
        let range = self.lines.range_of(line);
        let whole = without_end(&self.text[range.clone()]);
        // A line of a bundle has megabytes: what is shown begins near the place.
        let shown = if whole.len() > super::finding::LONGEST_SNIPPET {
            without_end(&self.text[at..range.end])
        } else {
            whole.trim()
        };
        let column = self.lines.characters_before(self.text, at) + 1;
        let line = u32::try_from(line + 1)
            .unwrap_or(u32::MAX)
            .saturating_add(self.first_line);
        let same = |f: &Finding| f.rule == rule && f.line == line && f.column as usize == column;
        if self.found.iter().rev().take(4).any(same) {
            return;
        }
        self.found.push(Finding {
            line,
            column: u32::try_from(column).unwrap_or(u32::MAX),
            snippet: carrier::cut_snippet(shown),
            ..Finding::about_file(rule, self.path, message)
        });
    }

    /// A call of `name` with or without `new`.
    fn check_call(&mut self, name: &str, arguments: &[Argument<'_>], span: Span) {
        let first = arguments.first().and_then(Argument::as_expression);
        let text = first.and_then(|e| self.start_of(e));
        let last = name.rsplit('.').next().unwrap_or(name);
        let runs_text = matches!(name, "eval" | "Function" | "execScript")
            || matches!(name, "setTimeout" | "setInterval")
                && first.is_some_and(|e| start_of_text(e).is_some() || decodes_text(e));
        if runs_text {
            let decodes = arguments
                .iter()
                .filter_map(Argument::as_expression)
                .any(decodes_text);
            if decodes {
                self.add(
                    &rules::HIDDEN_EVAL,
                    span,
                    format!("`{last}` runs what is decoded here"),
                );
            } else {
                self.add(&rules::EVAL, span, format!("`{last}` runs a text"));
            }
        }
        let remote = text.as_deref().filter(|t| is_remote(t));
        match (name, last, remote) {
            ("importScripts", _, Some(to)) | ("navigator.serviceWorker.register", _, Some(to)) => {
                self.add(&rules::REMOTE_CODE, span, from_host(to));
            }
            ("WebSocket", _, Some(to)) => self.add(&rules::REMOTE_SOCKET, span, to_host(to)),
            ("fetch" | "EventSource" | "navigator.sendBeacon", _, Some(to))
            | (_, "ajax" | "axios", Some(to)) => {
                self.add(&rules::REMOTE_REQUEST, span, to_host(to));
            }
            (_, "get" | "post" | "put" | "request", Some(to)) if name.starts_with("axios.") => {
                self.add(&rules::REMOTE_REQUEST, span, to_host(to));
            }
            (_, "open", _) => {
                let second = arguments.get(1).and_then(Argument::as_expression);
                let to = second.and_then(start_of_text).filter(|t| is_remote(t));
                if let Some(to) = to.filter(|_| text.as_deref().is_some_and(is_method)) {
                    self.add(&rules::REMOTE_REQUEST, span, to_host(&to));
                }
            }
            ("navigator.clipboard.readText" | "navigator.clipboard.read", _, _) => {
                self.add(
                    &rules::CLIPBOARD_READ,
                    span,
                    "it reads what was copied last".into(),
                );
            }
            (_, "getItem", _) if name.ends_with("Storage.getItem") => {
                if let Some(key) = text.filter(|t| names_a_secret(t)) {
                    self.add(&rules::TOKEN_READ, span, reads_key(&key));
                }
            }
            _ => {}
        }
    }
}

impl<'a> Visit<'a> for ScriptScan<'_> {
    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        let name = is_called_like(&call.callee, CALLED).then(|| dotted_name(&call.callee));
        let name = name.flatten();
        if let Some(name) = &name {
            self.check_call(name, &call.arguments, call.span);
        }
        self.check_behaviour(call, name.as_deref());
        walk::walk_call_expression(self, call);
    }

    fn visit_new_expression(&mut self, new: &NewExpression<'a>) {
        if is_called_like(&new.callee, CALLED)
            && let Some(name) = dotted_name(&new.callee)
        {
            self.check_call(&name, &new.arguments, new.span);
        }
        walk::walk_new_expression(self, new);
    }

    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        let to = self.start_of(&import.source).unwrap_or_default();
        if is_remote(&to) {
            self.add(&rules::REMOTE_CODE, import.span, from_host(&to));
        } else if to.starts_with("data:") {
            let message = "the code is in its address".to_string();
            self.add(&rules::EVAL, import.span, message);
        }
        walk::walk_import_expression(self, import);
    }

    fn visit_import_declaration(&mut self, import: &ImportDeclaration<'a>) {
        if is_remote(&import.source.value) {
            self.add(
                &rules::REMOTE_CODE,
                import.span,
                from_host(&import.source.value),
            );
        }
        walk::walk_import_declaration(self, import);
    }

    fn visit_export_all_declaration(&mut self, export: &ExportAllDeclaration<'a>) {
        if is_remote(&export.source.value) {
            self.add(
                &rules::REMOTE_CODE,
                export.span,
                from_host(&export.source.value),
            );
        }
        walk::walk_export_all_declaration(self, export);
    }

    fn visit_export_from_declaration(&mut self, export: &ExportFromDeclaration<'a>) {
        if is_remote(&export.source.value) {
            self.add(
                &rules::REMOTE_CODE,
                export.span,
                from_host(&export.source.value),
            );
        }
        walk::walk_export_from_declaration(self, export);
    }

    fn visit_assignment_expression(&mut self, it: &AssignmentExpression<'a>) {
        let member = it
            .left
            .as_simple_assignment_target()
            .and_then(|t| t.as_member_expression());
        let property = member.and_then(|m| m.static_property_name());
        let of_script = member
            .and_then(|m| dotted_name(m.object()))
            .is_some_and(|n| self.scripts.contains(&n));
        if let Some("src" | "href") = property
            && let Some(to) = self.start_of(&it.right).filter(|t| is_remote(t))
            && (of_script || is_script_address(&to))
        {
            self.add(&rules::REMOTE_CODE, it.span, from_host(&to));
        }
        if of_script && let Some("text" | "textContent" | "innerHTML" | "innerText") = property {
            let message = "a script is made of a text".to_string();
            self.add(&rules::EVAL, it.span, message);
        }
        self.note_assigned(it);
        // `document.cookie = …` writes.
        let writes_cookie = matches!(&it.left, AssignmentTarget::StaticMemberExpression(m)
            if m.property.name == "cookie");
        if writes_cookie {
            self.visit_expression(&it.right);
        } else {
            walk::walk_assignment_expression(self, it);
        }
    }

    fn visit_expression(&mut self, it: &Expression<'a>) {
        if may_read_store(it)
            && let Some(name) = dotted_name(it)
        {
            if name == "document.cookie" {
                self.add(
                    &rules::TOKEN_READ,
                    it.span(),
                    "it reads the page's cookies".into(),
                );
            } else if let Some((store, key)) = name.split_once('.')
                && matches!(store, "localStorage" | "sessionStorage")
                && names_a_secret(key)
            {
                self.add(&rules::TOKEN_READ, it.span(), reads_key(key));
            }
        }
        if let Expression::Identifier(id) = it
            && id.name == "eval"
        {
            let message = "`eval` is handed on under another name".to_string();
            self.add(&rules::EVAL, it.span(), message);
        }
        walk::walk_expression(self, it);
    }

    fn visit_variable_declarator(&mut self, it: &VariableDeclarator<'a>) {
        self.note_declared(it);
        walk::walk_variable_declarator(self, it);
    }

    fn visit_string_literal(&mut self, it: &StringLiteral<'a>) {
        if is_webhook(&it.value) {
            self.add(&rules::WEBHOOK, it.span, to_host(&it.value));
        }
        self.check_text(&it.value, it.span);
    }

    fn visit_template_element(&mut self, it: &TemplateElement<'a>) {
        if is_webhook(cooked(it)) {
            self.add(&rules::WEBHOOK, it.span, to_host(cooked(it)));
        }
        self.check_text(cooked(it), it.span);
    }
}

/// Whether a browser that is at ComfyUI's page asks another machine for this address.
fn is_remote(address: &str) -> bool {
    let page = url::Url::parse("http://localhost/");
    if let Some(to) = page.ok().and_then(|page| page.join(address).ok()) {
        let local = match to.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
            None => true,
        };
        return matches!(to.scheme(), "http" | "https" | "ws" | "wss") && !local;
    }
    // The start of one that a script puts together.
    let lower = address.trim().to_ascii_lowercase();
    let schemes = ["https://", "http://", "wss://", "ws://", "//"];
    let rest = schemes.iter().find_map(|s| lower.strip_prefix(s));
    rest.is_some_and(|rest| !rest.is_empty())
}

fn is_script_address(address: &str) -> bool {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    [".js", ".mjs", ".cjs"].iter().any(|e| path.ends_with(e))
}

fn is_method(text: &str) -> bool {
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"].contains(&text.to_ascii_uppercase().as_str())
}

fn is_webhook(text: &str) -> bool {
    const PARTS: &[&str] = &[
        "discord.com/api/webhooks/",
        "discordapp.com/api/webhooks/",
        "api.telegram.org/bot",
        "hooks.slack.com/services/",
        "webhook.site/",
    ];
    // Most texts of a script are words.
    text.len() > 12 && text.contains('/') && PARTS.iter().any(|p| text.contains(p))
}

fn names_a_secret(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    let words = [
        "token", "apikey", "api_key", "api-key", "auth", "password", "secret", "session",
    ];
    words.iter().any(|w| lower.contains(w)) && !lower.contains("author")
}

fn host_of(address: &str) -> String {
    let rest = address.split_once("//").map_or(address, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', '$']).next().unwrap_or_default();
    crate::text::escape_text(host)
}

fn from_host(address: &str) -> String {
    format!("the code comes from {}", host_of(address))
}

fn to_host(address: &str) -> String {
    format!("it connects to {}", host_of(address))
}

fn reads_key(key: &str) -> String {
    format!("it reads \"{}\"", crate::text::escape_text(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_examples_and_not_their_twins() {
        for rule in rules::RULES {
            for example in rule.examples {
                let found = scan_script("a.js", example.code, 0);
                let is_found = found.iter().any(|f| f.rule == rule);
                assert_eq!(is_found, example.found, "{}: {}", rule.id, example.code);
            }
        }
    }

    #[test]
    fn a_finding_has_its_line_and_column_and_what_cannot_be_parsed_is_one() {
        let found = scan_script("a.js", "const a = 1;\n  é(); eval(x)\n", 4);
        let places: Vec<_> = found
            .iter()
            .map(|f| (f.line, f.column, &*f.snippet))
            .collect();
        assert_eq!(places, [(6, 8, "é(); eval(x)")]);
        assert_eq!(
            scan_script("a.js", "function (", 0)[0].rule.id,
            "carrier-unparseable"
        );
        // JSX, CommonJS and TypeScript are what nodes write too.
        assert!(scan_script("a.js", "return_ = 1; module.exports = <div/>;", 0).is_empty());
        assert!(scan_script("a.ts", "const a: number = 1; export type B = string;", 0).is_empty());
        let page =
            "<html>\n<script src=\"https://cdn.test/a.js\"></script>\n<script>\neval(x)</script>";
        let found: Vec<_> = scan_page("a.html", page)
            .iter()
            .map(|f| (f.rule.id, f.line))
            .collect();
        assert_eq!(found, [("js-remote-code", 2), ("js-eval", 4)]);
    }

    #[test]
    fn the_time_for_a_line_grows_with_its_length_alone() {
        let line = "é;eval(x);".repeat(200_000);
        let start = std::time::Instant::now();
        let found = scan_script("a.js", &line, 0);
        // With columns that are counted from the start of the line it is more than a minute.
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        let last = found.last().map(|f| (f.line, f.column));
        assert_eq!(last, Some((1, 199_999 * 10 + 3)));
    }

    #[test]
    fn a_page_runs_what_its_attributes_say_too() {
        let rules = |page: &str| -> Vec<(&str, u32)> {
            let found = scan_page("a.html", page);
            found.iter().map(|f| (f.rule.id, f.line)).collect()
        };
        for page in [
            "<img src=x onerror='eval(a)'>",
            "<svg/onload=eval(a)>",
            "<a href=\" javascript:eval&#40;a)\">x</a>",
            "<iframe srcdoc='<script>eval(a)</script>'></iframe>",
            "<script data-x='application/json'>eval(a)</script>",
            "<svg><style><img onerror=eval(a)></style></svg>",
            "<script>eval(a)",
            "<title><!--</title><script>eval(a)</script>",
            "<style><a x='</style><script>eval(a)</script>",
            "<style><script type=application/json></style><img onerror=eval(a)>",
            "<script/>eval(a)</script>",
            "<s:script>eval(a)</s:script>",
            "<s:script><![CDATA[eval(a)]]></s:script>",
            "<script><![CDATA[eval(a)]]></script>",
            "<a href='&#1;java&#10;script:%65val(a)'>x</a>",
        ] {
            assert_eq!(rules(page), [("js-eval", 1)], "{page}");
        }
        for page in [
            "<script type=importmap>{\"imports\": {\"a\": \"https://cdn.test/a.js\"}}</script>",
            "<script\nsrc=//cdn.test/a.js></script>",
            "<base href='https://cdn.test/'>",
            "<script src='/\\cdn.test/a.js'></script>",
            "<script src='https://127.0.0.1@cdn.test/a.js'></script>",
            "<script src='https://localhost.cdn.test/a.js'></script>",
        ] {
            assert_eq!(rules(page), [("js-remote-code", 1)], "{page}");
        }
        let picture = "<svg><script xlink:href='https://cdn.test/a.js'/></svg>";
        let found = scan_page("a.svg", picture);
        assert_eq!(found.len(), 1, "{found:?}");
        let nested = (0..6).fold(String::new(), |inner, _| {
            let escaped = inner.replace('&', "&amp;").replace('\'', "&#39;");
            format!("<iframe srcdoc='{escaped}'></iframe>")
        });
        assert_eq!(rules(&nested), [("carrier-unparseable", 0)]);
        let data = "<script src='data:text/javascript,f()'></script>";
        assert_eq!(rules(data), [("js-hidden-code", 1)]);
        for page in [
            "<script src='http://localhost:8188/a.js'></script><script src=a.js></script>",
            "<!-- <script>eval(a)</script> -->",
            "<div onclick='{{ handler }}' data-x=\"<script>eval(a)</script>\">eval(a)</div>",
            "<script type='application/json'>{\"a\": \"eval(a)\"}</script>",
        ] {
            assert_eq!(rules(page), [], "{page}");
        }
    }
}
