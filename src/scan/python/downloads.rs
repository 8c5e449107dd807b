//! Files that hold what was downloaded, and programs that are started from them.

use ruff_python_ast::{Expr, ExprAttribute, ExprCall};
use ruff_text_size::Ranged;

use super::calls::Arguments;
use super::reader::Reader;
use super::rules::{self, CallSite, Sink, intent::PY_DOWNLOAD_AND_RUN, network};
use super::scope::Frame;
use super::source::{Hit, offset_of};
use super::summary::effects;
use super::taint::SourceKind;
use super::values::{Value, What};
use crate::scan::finding::Severity;

impl<'a> Reader<'a> {
    pub(super) fn slice_of(&self, frame: &Frame<'a>, expr: &Expr) -> &'a str {
        let text = &self.program.modules[frame.module].source.text;
        text.get(expr.range().to_std_range()).unwrap_or("")
    }

    /// Remembers which file a name is open for: `name = open(path, "wb")`.
    pub(super) fn note_handle(
        &mut self,
        frame: &mut Frame<'a>,
        target: &'a Expr,
        opened: &'a Expr,
    ) {
        let Expr::Call(call) = opened else {
            return;
        };
        if let (Expr::Name(_) | Expr::Attribute(_), Some(path)) =
            (target, call.arguments.args.first())
        {
            let handle = self.slice_of(frame, target).to_string();
            let path = self.slice_of(frame, path).to_string();
            frame.handles.push((handle, path));
        }
    }

    /// Looks for downloads that are written, and for programs that are started from them.
    pub(super) fn note_opened(
        &mut self,
        frame: &mut Frame<'a>,
        call: &'a ExprCall,
        callee: &Value,
        arguments: &Arguments,
    ) {
        let Some(name) = callee.name() else {
            return;
        };
        let remote = arguments.all().any(|v| v.taint.has(SourceKind::Remote));
        let last = rules::last_segment(name);
        if remote
            && matches!(
                last,
                ".write" | ".write_bytes" | ".write_text" | ".copyfileobj"
            )
        {
            let file = match (&*call.func, last) {
                (_, ".copyfileobj") => call.arguments.args.get(1),
                (Expr::Attribute(attribute), _) => Some(&*attribute.value),
                _ => None,
            };
            let key = match file {
                Some(Expr::Call(open)) => open
                    .arguments
                    .args
                    .first()
                    .map(|p| self.slice_of(frame, p).to_string()),
                Some(file) => Some(self.slice_of(frame, file).to_string()),
                None => None,
            };
            if let Some(key) = key {
                let hit = Hit::of(
                    &network::PY_DOWNLOAD,
                    "What comes from the network is written to a file.",
                );
                let offset = offset_of(call.range().start());
                self.tell(frame.module, offset, hit, Vec::new());
                self.tell_program(frame, call, &key);
                let path = frame
                    .handles
                    .iter()
                    .rev()
                    .find(|(h, _)| *h == key)
                    .map(|(_, p)| p.clone());
                frame.downloaded.push(path.unwrap_or(key));
            }
        } else if network::is_download(name)
            && (name.ends_with("urlretrieve")
                || name.ends_with("url_to_file")
                || name.starts_with("wget")
                || name.starts_with("gdown"))
        {
            let texts: Vec<String> = arguments
                .all()
                .filter_map(|v| v.as_text().map(|t| t.to_string()))
                .collect();
            for text in &texts {
                self.tell_program(frame, call, text);
            }
            if let Some(path) = call.arguments.args.get(1) {
                frame
                    .downloaded
                    .push(self.slice_of(frame, path).to_string());
            }
        }
        self.note_started(frame, call, name);
    }

    /// Tells if what is downloaded is a program, by its name.
    fn tell_program(&mut self, frame: &mut Frame<'a>, call: &'a ExprCall, name: &str) {
        let known = self.look_up(frame, name).as_text();
        let name = known.as_deref().unwrap_or(name);
        let plain = name.trim_matches(['"', '\'']).to_ascii_lowercase();
        let programs = [
            ".exe", ".dll", ".scr", ".bat", ".cmd", ".ps1", ".vbs", ".msi", ".sh", ".so", ".dylib",
            ".jar", ".hta", ".elf", ".pyd", ".py", ".pyc",
        ];
        if programs.iter().any(|p| plain.ends_with(p)) {
            let hit = Hit::of(
                &network::PY_DOWNLOAD,
                "A program is downloaded, and no hash says which.",
            )
            .at(Severity::Medium);
            self.tell(
                frame.module,
                offset_of(call.range().start()),
                hit,
                Vec::new(),
            );
        }
    }

    fn note_started(&mut self, frame: &mut Frame<'a>, call: &'a ExprCall, name: &str) {
        if frame.downloaded.is_empty() {
            return;
        }
        let runs = rules::flow_rules(name).any(|r| r.sink == Sink::Command)
            || matches!(
                name,
                "ctypes.CDLL" | "runpy.run_path" | "ctypes.cdll.LoadLibrary" | "ctypes.WinDLL"
            );
        let marks = matches!(name, "os.chmod" | "os.fchmod") || name.ends_with(".chmod");
        if !(runs || marks) {
            return;
        }
        let text = self.slice_of(frame, &call.func).to_string();
        let all = call
            .arguments
            .args
            .iter()
            .map(|a| self.slice_of(frame, a).to_string());
        let words: Vec<String> = all.chain(marks.then_some(text)).collect();
        let started = frame
            .downloaded
            .iter()
            .any(|key| words.iter().any(|w| has_word(w, key)));
        if !started {
            return;
        }
        let message = if marks {
            "What was downloaded is made executable."
        } else {
            "What was downloaded is started."
        };
        let hit = Hit::of(&PY_DOWNLOAD_AND_RUN, message).at(Severity::High);
        self.tell(
            frame.module,
            offset_of(call.range().start()),
            hit,
            Vec::new(),
        );
    }

    /// `list.append(value)` and its like.
    pub(super) fn note_added(
        &mut self,
        frame: &mut Frame<'a>,
        attribute: &'a ExprAttribute,
        receiver: Option<&Value>,
        arguments: &Arguments,
    ) {
        let method = attribute.attr.as_str();
        if !matches!(
            method,
            "append"
                | "add"
                | "insert"
                | "extend"
                | "update"
                | "appendleft"
                | "setdefault"
                | "attach"
        ) {
            return;
        }
        let Some(receiver) = receiver else {
            return;
        };
        let after = match (&receiver.what, method) {
            (What::List(items, _), "append" | "extend") if items.len() < 64 => {
                let mut items = items.to_vec();
                for value in &arguments.positional {
                    match value.items() {
                        Some(inner) if method == "extend" => items.extend(inner.iter().cloned()),
                        _ => items.push(value.clone()),
                    }
                }
                Value::list(items).with_taint(&receiver.taint)
            }
            _ => arguments
                .all()
                .fold(receiver.clone(), |known, v| known.with_taint(&v.taint)),
        };
        if after != *receiver && matches!(&*attribute.value, Expr::Name(_) | Expr::Attribute(_)) {
            self.assign(frame, &attribute.value, &after);
        }
    }

    /// What a call downloads, for the summary.
    pub(super) fn note_downloads(&self, frame: &mut Frame<'a>, _offset: u32, site: &CallSite<'_>) {
        if site.facts.is_download {
            frame.summary.effects |= effects::WRITES;
        }
        let about = |v: &Value| {
            v.as_text().is_some_and(|t| {
                let lower = t.to_ascii_lowercase();
                [
                    "authorization",
                    "origin",
                    "referer",
                    "token",
                    "api-key",
                    "csrf",
                    "host",
                ]
                .iter()
                .any(|w| lower.contains(w))
            })
        };
        if site.facts.asks_sender && site.positional.iter().any(about) {
            frame.summary.effects |= effects::ASKS_SENDER;
        }
    }
}

/// Whether `text` holds `word` with no letter beside it.
fn has_word(text: &str, word: &str) -> bool {
    let word = word.trim();
    if word.len() < 2 {
        return text == word && !word.is_empty();
    }
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let quoted = word.starts_with(['"', '\'']);
        quoted
            || !letter(text[..at].chars().next_back())
                && !letter(text[at + word.len()..].chars().next())
    })
}
