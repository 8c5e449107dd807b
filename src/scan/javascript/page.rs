//! Scripts inside HTML and SVG.

use std::borrow::Cow;
use std::collections::BTreeSet;

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{HtmlString, StartTag, State, Token, Tokenizer, naive_next_state};

use super::{from_host, is_remote, rules, scan_script};
use crate::scan::carrier::{self, cut_snippet};
use crate::scan::finding::Finding;
use crate::scan::lines::LineTable;

/// How many pages may stand in one another.
const DEPTH: usize = 4;
/// Types of scripts whose text no browser runs.
const DATA: [&str; 4] = ["application/json", "text/template", "importmap", "x-shader"];

/// Scans what a page loads and runs. Browsers read more than this finds, so nothing here says that
/// a page is harmless.
///
/// Whether `style`, `textarea` and the like hold text or markup, and whether `<script/>` is closed,
/// depends on where they stand: a page that has one is read both ways.
pub(crate) fn scan_page(path: &str, text: &str) -> Vec<Finding> {
    let mut page = PageScan {
        path,
        raw_texts: false,
        is_ambiguous: false,
        found: Vec::new(),
    };
    page.read(text, 0, DEPTH);
    if page.is_ambiguous {
        page.raw_texts = true;
        page.read(text, 0, DEPTH);
    }
    let mut known = BTreeSet::new();
    let is_new = |f: &Finding| known.insert((f.rule.id, f.line, f.column, f.message.clone()));
    page.found.retain(is_new);
    page.found
}

struct PageScan<'a> {
    path: &'a str,
    /// Whether elements of HTML that hold text do so, and `<script/>` is open.
    raw_texts: bool,
    /// Whether something was read that can be read in another way.
    is_ambiguous: bool,
    found: Vec<Finding>,
}

impl PageScan<'_> {
    fn is_xml(&self) -> bool {
        let lower = self.path.to_ascii_lowercase();
        [".svg", ".xhtml"].iter().any(|e| lower.ends_with(e))
    }

    /// `before`: lines that come before the first one of `text`.
    fn read(&mut self, text: &str, before: u32, depth: usize) {
        let lines = LineTable::of_text(text);
        let line_of = |offset: usize| {
            before.saturating_add(u32::try_from(lines.line_of(offset)).unwrap_or(u32::MAX))
        };
        let mut emitter = DefaultEmitter::new_with_span();
        emitter.naively_switch_states(self.raw_texts);
        let mut tokens = Tokenizer::new_with_emitter(text, emitter);
        // The script that is open, if its text runs, and the line that it starts on.
        let mut script: Option<(String, u32)> = None;
        // The line of the import map that is open.
        let mut map: Option<u32> = None;
        while let Some(Ok(token)) = tokens.next() {
            match token {
                Token::StartTag(tag) => {
                    let shown = text.get(tag.span.start..tag.span.end).unwrap_or_default();
                    self.examine_tag(&tag, shown, line_of(tag.span.start), depth);
                    self.is_ambiguous |= match &tag.name[..] {
                        b"script" => tag.self_closing,
                        other => naive_next_state(other).is_some(),
                    };
                    if is_script(&tag.name) {
                        let closed = tag.self_closing && (!self.raw_texts || self.is_xml());
                        if tag.name[..] == *b"script" && !closed {
                            tokens.set_state(State::ScriptData);
                        } else {
                            tokens.set_state(State::Data);
                        }
                        let kind = tag.attributes.get(&b"type"[..]).map(|v| shown_text(v));
                        let kind = kind.unwrap_or_default().to_ascii_lowercase();
                        let runs = !DATA.iter().any(|d| kind.contains(d));
                        map = kind.contains("importmap").then_some(line_of(tag.span.end));
                        script = runs.then(|| (String::new(), line_of(tag.span.end)));
                    }
                }
                Token::String(more) => {
                    if let Some(line) = map {
                        self.examine_import_map(&shown_text(&more), line);
                    }
                    if let Some((body, _)) = &mut script {
                        body.push_str(&shown_text(&more));
                    }
                }
                // So HTML takes what is a text in XML.
                Token::Comment(more) if more.starts_with(b"[CDATA[") => {
                    if let Some((body, _)) = &mut script {
                        let text = more[7..].strip_suffix(b"]]").unwrap_or(&more[7..]);
                        body.push_str(&shown_text(text));
                    }
                }
                Token::EndTag(tag) if is_script(&tag.name) => {
                    map = None;
                    self.examine_script(script.take());
                }
                _ => {}
            }
        }
        self.examine_script(script);
    }

    fn examine_script(&mut self, script: Option<(String, u32)>) {
        let Some((body, line)) = script else {
            return;
        };
        // As SVG has it.
        let body = body.replace("<![CDATA[", "").replace("]]>", "");
        if !body.trim().is_empty() {
            self.found.extend(scan_script(self.path, &body, line));
        }
    }

    /// Modules that a page names by addresses (<https://html.spec.whatwg.org/#import-maps>).
    fn examine_import_map(&mut self, text: &str, before: u32) {
        for (number, line) in text.lines().enumerate() {
            for address in line.split('"').filter(|a| a.contains("//") && is_remote(a)) {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                self.found.push(Finding {
                    line: before.saturating_add(number).saturating_add(1),
                    column: 1,
                    snippet: cut_snippet(line.trim()),
                    ..Finding::about_file(&rules::REMOTE_CODE, self.path, from_host(address))
                });
            }
        }
    }

    /// `line`: how many come before it.
    fn examine_tag(&mut self, tag: &StartTag<usize>, shown: &str, line: u32, depth: usize) {
        for (name, value) in &tag.attributes {
            let value = shown_text(value);
            let loads = match &tag.name[..] {
                script if is_script(script) => {
                    [&b"src"[..], b"href", b"xlink:href"].contains(&&name[..])
                }
                // Scripts of this page are addressed relative to it.
                b"base" => name[..] == *b"href",
                _ => false,
            };
            let brings_code = value.trim_start().to_ascii_lowercase().starts_with("data:");
            if loads && brings_code {
                let message = "the script is in its address".to_string();
                self.found.push(Finding {
                    line: line + 1,
                    column: 1,
                    snippet: cut_snippet(shown),
                    ..Finding::about_file(&rules::HIDDEN_EVAL, self.path, message)
                });
            }
            if loads && is_remote(&value) {
                self.found.push(Finding {
                    line: line + 1,
                    column: 1,
                    snippet: cut_snippet(shown),
                    ..Finding::about_file(&rules::REMOTE_CODE, self.path, from_host(&value))
                });
            }
            if name[..] == *b"srcdoc" && depth > 0 {
                self.read(&value, line, depth - 1);
            } else if name[..] == *b"srcdoc" {
                let why = "has too many pages in one another";
                self.found.push(carrier::unparseable(self.path, why));
            }
            if let Some(code) = code_of(name, &value) {
                // What is no script is a template of a framework, and a browser does not run it.
                let found = scan_script(self.path, &code, line);
                let found = found
                    .into_iter()
                    .filter(|f| f.rule != &carrier::rules::UNPARSEABLE);
                self.found.extend(found);
            }
        }
    }
}

fn is_script(name: &[u8]) -> bool {
    // XML may give it a prefix.
    name.rsplit(|b| *b == b':').next() == Some(b"script")
}

/// The script that an attribute is: the handler of an event, or an address.
fn code_of<'v>(name: &HtmlString, value: &'v str) -> Option<Cow<'v, str>> {
    if name.len() > 2 && name.starts_with(b"on") {
        return Some(value.into());
    }
    // <https://url.spec.whatwg.org/#concept-basic-url-parser>: what an address is stripped of.
    let address: String = value
        .trim_start_matches(|c: char| c <= ' ')
        .chars()
        .filter(|c| !matches!(c, '\t' | '\n' | '\r'))
        .collect();
    let scheme = address.get(..11)?;
    if !scheme.eq_ignore_ascii_case("javascript:") {
        return None;
    }
    let code = percent_encoding::percent_decode_str(&address[11..]);
    Some(code.decode_utf8_lossy().into_owned().into())
}

fn shown_text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
