//! Scripts inside HTML and SVG.

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{HtmlString, StartTag, State, Token, Tokenizer};

use super::{from_host, is_remote, rules, scan_script};
use crate::scan::carrier::{self, cut_snippet};
use crate::scan::finding::Finding;

/// How many pages may stand in one another.
const DEPTH: usize = 4;
/// Types of scripts whose text no browser runs.
const DATA: [&str; 4] = ["application/json", "text/template", "importmap", "x-shader"];

/// Scans what a page loads and runs. Browsers read more than this finds, so nothing here says that
/// a page is harmless.
///
/// Markup within `style`, `textarea` and the like counts too: what a browser takes it for depends
/// on where it stands.
pub(crate) fn scan_page(path: &str, text: &str) -> Vec<Finding> {
    let mut page = PageScan {
        path,
        found: Vec::new(),
    };
    page.read(text, 0, DEPTH);
    page.found
}

struct PageScan<'a> {
    path: &'a str,
    found: Vec<Finding>,
}

impl PageScan<'_> {
    /// `before`: lines that come before the first one of `text`.
    fn read(&mut self, text: &str, before: u32, depth: usize) {
        let mut lines = LineCount {
            text,
            at: 0,
            line: before,
        };
        let mut tokens = Tokenizer::new_with_emitter(text, DefaultEmitter::new_with_span());
        // The script that is open, if its text runs, and the line that it starts on.
        let mut script: Option<(String, u32)> = None;
        while let Some(Ok(token)) = tokens.next() {
            match token {
                Token::StartTag(tag) => {
                    let shown = text.get(tag.span.start..tag.span.end).unwrap_or_default();
                    self.examine_tag(&tag, shown, lines.line_of(tag.span.start), depth);
                    if tag.name[..] == *b"script" {
                        // `<script/>` is closed in SVG, and open elsewhere: what follows is
                        // taken for both.
                        if !tag.self_closing {
                            tokens.set_state(State::ScriptData);
                            tokens.set_last_start_tag(Some("script"));
                        }
                        let kind = tag.attributes.get(&b"type"[..]).map(|v| shown_text(v));
                        let kind = kind.unwrap_or_default().to_ascii_lowercase();
                        let runs = !DATA.iter().any(|d| kind.contains(d));
                        script = runs.then(|| (String::new(), lines.line_of(tag.span.end)));
                    }
                }
                Token::String(more) => {
                    if let Some((body, _)) = &mut script {
                        body.push_str(&shown_text(&more));
                    }
                }
                Token::EndTag(tag) if tag.name[..] == *b"script" => {
                    self.examine_script(script.take());
                }
                _ => {}
            }
        }
        self.examine_script(script);
    }

    fn examine_script(&mut self, script: Option<(String, u32)>) {
        if let Some((body, line)) = script.filter(|(body, _)| !body.trim().is_empty()) {
            self.found.extend(scan_script(self.path, &body, line));
        }
    }

    /// `line`: how many come before it.
    fn examine_tag(&mut self, tag: &StartTag<usize>, shown: &str, line: u32, depth: usize) {
        for (name, value) in &tag.attributes {
            let value = shown_text(value);
            let loads = match &tag.name[..] {
                b"script" => [&b"src"[..], b"href", b"xlink:href"].contains(&&name[..]),
                // Scripts of this page are addressed relative to it.
                b"base" => name[..] == *b"href",
                _ => false,
            };
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
            }
            if let Some(code) = code_of(name, &value) {
                // What is no script is a template of a framework, and a browser does not run it.
                let found = scan_script(self.path, code, line);
                let found = found
                    .into_iter()
                    .filter(|f| f.rule != &carrier::rules::UNPARSEABLE);
                self.found.extend(found);
            }
        }
    }
}

/// The script that an attribute is: the handler of an event, or an address.
fn code_of<'v>(name: &HtmlString, value: &'v str) -> Option<&'v str> {
    if name.len() > 2 && name.starts_with(b"on") {
        return Some(value);
    }
    let value = value.trim_start();
    let scheme = value.get(..11)?;
    scheme
        .eq_ignore_ascii_case("javascript:")
        .then(|| &value[11..])
}

fn shown_text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Counts line breaks from one place to the next.
struct LineCount<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl LineCount<'_> {
    fn line_of(&mut self, offset: usize) -> u32 {
        let between = self.text.as_bytes().get(self.at..offset);
        let breaks = memchr::memchr_iter(b'\n', between.unwrap_or_default()).count();
        self.line = self
            .line
            .saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        self.at = offset.max(self.at);
        self.line
    }
}
