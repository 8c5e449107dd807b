//! The page of `comfy doctor --report`: what this machine is and does, without names and paths of the
//! owner's, to be pasted into an issue.

use super::{ProbeAs, ProbeOutcome, ProbeVerdict};
use crate::manifest::LaunchSession;

/// One fact that probe.py found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportFact {
    pub by: ProbeAs,
    pub session: LaunchSession,
    pub id: String,
    pub text: String,
}

/// Parses a line of probe.py.
pub(crate) fn parse_fact(by: ProbeAs, session: LaunchSession, line: &str) -> Option<ReportFact> {
    let (id, outcome, text): (String, String, String) = serde_json::from_str(line).ok()?;
    (outcome == "fact").then_some(ReportFact {
        by,
        session,
        id,
        text,
    })
}

/// Whether the matrix product of 64 came out of a try on the GPU.
fn computes(facts: &[ReportFact], by: ProbeAs, session: LaunchSession) -> bool {
    let mut own = facts.iter().filter(|f| f.by == by && f.session == session);
    own.any(|f| f.id == "metal.matmul" && f.text == "64.0")
}

/// Which session ComfyUI has to start in for the GPU to compute, told from tries in both; `None`:
/// it makes no difference.
pub(crate) fn better_session(facts: &[ReportFact]) -> Option<LaunchSession> {
    let [own, caller] = [LaunchSession::Own, LaunchSession::Caller]
        .map(|session| computes(facts, ProbeAs::Confined, session));
    match (own, caller) {
        (false, true) => Some(LaunchSession::Caller),
        (true, false) => Some(LaunchSession::Own),
        _ => None,
    }
}

/// What says who somebody is, with what stands for it: names, and folders, of which what is below
/// them goes too.
pub(crate) struct PrivateWords {
    names: Vec<(String, &'static str)>,
    folders: Vec<(String, &'static str)>,
}

impl PrivateWords {
    /// Names of one letter, which are part of other words, are left alone.
    pub(crate) fn new(
        mut names: Vec<(String, &'static str)>,
        mut folders: Vec<(String, &'static str)>,
    ) -> PrivateWords {
        names.retain(|(n, _)| n.len() > 1);
        folders.extend(["/Users/", "/home/"].map(|f| (f.to_string(), "HOME")));
        folders.push(("/Volumes/".into(), "VOLUME"));
        folders.retain(|(f, _)| f.len() > 1);
        for list in [&mut names, &mut folders] {
            list.sort_by_key(|(w, _)| std::cmp::Reverse(w.len()));
        }
        PrivateWords { names, folders }
    }

    pub(crate) fn remove_from(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((at, folder, instead)) = self.first_folder(rest) {
            out.push_str(&rest[..at]);
            out.push_str(instead);
            let after = &rest[at + folder.len()..];
            // Names have blanks, so that only a quote or the line's end is an end.
            let end = match rest[..at].chars().next_back() {
                Some(quote @ ('"' | '\'')) => after.find([quote, '\n']),
                _ => after.find('\n'),
            };
            rest = &after[end.unwrap_or(after.len())..];
        }
        out.push_str(rest);
        self.names
            .iter()
            .fold(out, |text, (name, instead)| text.replace(name, instead))
    }

    /// The first of the folders in a text; of two at one place, the longer one.
    fn first_folder<'a>(&'a self, text: &str) -> Option<(usize, &'a str, &'static str)> {
        let found = self
            .folders
            .iter()
            .filter_map(|(folder, instead)| Some((text.find(folder.as_str())?, folder, *instead)));
        let first = found.min_by_key(|(at, folder, _)| (*at, std::cmp::Reverse(folder.len())))?;
        Some((first.0, first.1, first.2))
    }
}

/// What the page is made of.
pub(crate) struct ReportPage<'a> {
    /// `comfy 0.1.0 (abc)`, the system, the machine: a name and a value.
    pub machine: Vec<(String, String)>,
    pub facts: &'a [ReportFact],
    pub verdicts: &'a [ProbeVerdict],
    /// Lines of the system's log about what it denied.
    pub denials: Vec<String>,
}

impl ReportPage<'_> {
    /// Writes it as Markdown, which an issue shows as it is.
    pub(crate) fn text(&self, private: &PrivateWords) -> String {
        let mut out = String::from("```text\n");
        let mut line = |name: &str, value: &str| {
            out.push_str(format!("{name:<24}{}", value.trim()).trim_end());
            out.push('\n');
        };
        for (name, value) in &self.machine {
            line(name, value);
        }
        for by in [ProbeAs::Bare, ProbeAs::Confined] {
            for session in [LaunchSession::Own, LaunchSession::Caller] {
                let own = self
                    .facts
                    .iter()
                    .filter(|f| f.by == by && f.session == session);
                for (n, f) in own.enumerate() {
                    if n == 0 {
                        let how = match by {
                            ProbeAs::Confined => "confined",
                            _ => "with the account alone",
                        };
                        let session = match session {
                            LaunchSession::Own => "in a session of its own",
                            LaunchSession::Caller => "in the session of whoever starts it",
                        };
                        line("", "");
                        line(&format!("{how}, {session}:"), "");
                    }
                    line(&format!("  {}", f.id), &f.text);
                }
            }
        }
        line("", "");
        let of = |outcome| {
            let own = self.verdicts.iter().filter(|v| v.outcome == outcome);
            own.map(|v| v.id).collect::<Vec<_>>()
        };
        let held = of(ProbeOutcome::Held).len();
        line(
            "walls that held",
            &format!("{held} of {}", self.verdicts.len()),
        );
        // Without the details, which name files.
        line("broken", &none_or(of(ProbeOutcome::Broken)));
        line("could not be tried", &none_or(of(ProbeOutcome::Untried)));
        if !self.denials.is_empty() {
            line("", "");
            line("denied, as the log says:", "");
            self.denials.iter().for_each(|d| line("", d));
        }
        out.push_str("```\n");
        private.remove_from(&out)
    }
}

fn none_or(words: Vec<&str>) -> String {
    if words.is_empty() {
        "none".into()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    fn fact(by: ProbeAs, session: LaunchSession, id: &str, text: &str) -> ReportFact {
        let line = serde_json::json!([id, "fact", text]).to_string();
        parse_fact(by, session, &line).unwrap()
    }

    #[test]
    fn the_page_says_what_the_machine_does_and_not_whose_it_is() {
        use LaunchSession::{Caller, Own};
        use ProbeAs::{Bare, Confined};
        let facts = [
            fact(Bare, Own, "session.name", "Background"),
            fact(Bare, Caller, "session.pasteboard", "reached"),
            fact(
                Confined,
                Own,
                "metal.matmul",
                "exit code 1: /Users/alice.b/x/ops.py: no device",
            ),
            fact(Confined, Caller, "metal.matmul", "64.0"),
        ];
        assert_eq!(parse_fact(Bare, Own, r#"["read.keys", "held", ""]"#), None);
        assert_eq!(better_session(&facts), Some(Caller));
        assert_eq!(better_session(&facts[..3]), None);
        let verdict = |id, outcome, detail: &str| ProbeVerdict {
            id,
            what: "",
            outcome,
            detail: detail.into(),
            mend: None,
        };
        let verdicts = [
            verdict("read.keys", ProbeOutcome::Held, ""),
            verdict("read.homes", ProbeOutcome::Broken, "/Users/bob"),
        ];
        let page = ReportPage {
            machine: vec![
                ("comfy".into(), "0.1.0 (abc)".into()),
                ("share".into(), "/Volumes/Big Disk/models".into()),
            ],
            facts: &facts,
            verdicts: &verdicts,
            denials: vec![
                "python3.12 deny(1) file-read-data /Users/alice/Library/My Client/a b.txt".into(),
                "python3.12 deny(1) file-read-data /Volumes/Alice Smith/tax.pdf".into(),
                "python3.12 deny(1) mach-lookup com.apple.windowserver on alices-mac".into(),
                "python3.12 deny(1) file-read-data \"/Users/carol/a b\" here".into(),
            ],
        };
        let private = PrivateWords::new(
            vec![
                ("alice".into(), "OWNER"),
                ("alices-mac".into(), "HOST"),
                (String::new(), "NOTHING"),
            ],
            vec![("/Volumes/Big Disk/models".into(), "SHARE")],
        );
        insta::assert_snapshot!(page.text(&private), @r#"
        ```text
        comfy                   0.1.0 (abc)
        share                   SHARE

        with the account alone, in a session of its own:
          session.name          Background

        with the account alone, in the session of whoever starts it:
          session.pasteboard    reached

        confined, in a session of its own:
          metal.matmul          exit code 1: HOME

        confined, in the session of whoever starts it:
          metal.matmul          64.0

        walls that held         1 of 2
        broken                  read.homes
        could not be tried      none

        denied, as the log says:
                                python3.12 deny(1) file-read-data HOME
                                python3.12 deny(1) file-read-data VOLUME
                                python3.12 deny(1) mach-lookup com.apple.windowserver on HOST
                                python3.12 deny(1) file-read-data "HOME" here
        ```
        "#);
    }
}
