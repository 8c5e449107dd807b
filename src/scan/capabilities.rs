//! What a part can do, in a few lines, and what it newly can.

use std::collections::BTreeMap;

use super::finding::Category;
use super::report::ScanReport;
use crate::text::count_of;

/// How many places have each capability.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(BTreeMap<Category, u64>);

impl Capabilities {
    pub(crate) fn of_report(report: &ScanReport) -> Capabilities {
        let mut out = Capabilities::default();
        for f in &report.findings {
            *out.0.entry(f.category()).or_default() += 1;
        }
        out
    }

    /// From the words of comfy.lock; one that nobody knows is passed over.
    pub(crate) fn from_words(words: &BTreeMap<String, u64>) -> Capabilities {
        let known = words
            .iter()
            .filter_map(|(word, n)| Some((Category::from_word(word)?, *n)));
        Capabilities(known.collect())
    }

    pub(crate) fn to_words(&self) -> BTreeMap<String, u64> {
        let words = self.0.iter().map(|(c, n)| (c.as_word().to_string(), *n));
        words.collect()
    }

    /// What this has and `old` has not, then what is no longer there: `+ starts programs (2
    /// places)`. More places of the same are told where there were some before.
    pub(crate) fn lines_since(&self, old: &Capabilities) -> Vec<String> {
        let count = |all: &Capabilities| {
            let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
            for (category, n) in &all.0 {
                *sums.entry(sentence_of(*category)).or_default() += n;
            }
            sums
        };
        let (before, now) = (count(old), count(self));
        let places = |n: u64| count_of(usize::try_from(n).unwrap_or(usize::MAX), "place");
        let mut lines = Vec::new();
        for (sentence, n) in &now {
            match before.get(sentence) {
                None => lines.push(format!("+ {sentence} ({})", places(*n))),
                Some(old) if old < n => {
                    lines.push(format!("+ {sentence} in {} more", places(n - old)));
                }
                Some(_) => {}
            }
        }
        let gone = before.keys().filter(|s| !now.contains_key(*s));
        lines.extend(gone.map(|sentence| format!("- {sentence}")));
        lines
    }
}

/// What code of a category does, as a verb.
fn sentence_of(category: Category) -> &'static str {
    match category {
        Category::CodeExec => "runs code that it makes or is given",
        Category::Deser => "reads formats that can run code",
        Category::CmdExec => "starts programs",
        Category::PkgInstall => "installs packages",
        Category::GitClone => "fetches repositories",
        Category::PathTraversal => "uses paths out of data",
        Category::FileOp => "removes or overwrites files",
        Category::Ssrf | Category::InsecureDownload => "opens network connections",
        Category::TlsOff => "does not check certificates",
        Category::WebRoute => "answers requests of the browser",
        Category::CredRead => "reads keys or the environment",
        Category::Obfuscation => "hides what it does",
        Category::NetworkListener => "listens on the network",
        Category::Persistence => "arranges to be started again",
        Category::Carrier => "brings code that cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_tells_what_it_newly_can_do() {
        let of = |words: &[(&str, u64)]| {
            let words = words.iter().map(|(w, n)| (w.to_string(), *n)).collect();
            Capabilities::from_words(&words)
        };
        let old = of(&[("cmd-exec", 1), ("ssrf", 1), ("tls-off", 1), ("file-op", 2)]);
        let new = of(&[
            ("cmd-exec", 1),
            ("ssrf", 1),
            ("insecure-download", 2),
            ("web-route", 1),
            ("file-op", 1),
        ]);
        insta::assert_snapshot!(new.lines_since(&old).join("\n"), @r"
        + answers requests of the browser (1 place)
        + opens network connections in 2 places more
        - does not check certificates
        ");
        assert!(new.lines_since(&new).is_empty());
        assert_eq!(Capabilities::from_words(&new.to_words()), new);
    }
}
