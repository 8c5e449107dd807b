//! What a scan has found, as a whole.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::carrier::rules::CRASH;
use super::finding::{FileVerdict, Finding, Severity, Verdict};

/// What was found in one unit, or in all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ScanReport {
    pub findings: Vec<Finding>,
    /// Of each model file.
    pub verdicts: Vec<FileVerdict>,
    /// Files that were looked at.
    pub files: usize,
}

impl ScanReport {
    pub(crate) fn extend(&mut self, other: ScanReport) {
        self.findings.extend(other.findings);
        self.verdicts.extend(other.verdicts);
        self.files += other.files;
    }

    /// Sorts worst first, then by path and place.
    pub(crate) fn sort_worst_first(&mut self) {
        let key = |f: &Finding| (rank(f), f.path.clone(), f.line, f.column, f.rule.id);
        self.findings.sort_by_cached_key(key);
        self.verdicts.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// How many findings have each severity, the worst first; those with none are there too.
    pub(crate) fn counts(&self) -> Vec<(Severity, usize)> {
        let count = |s: Severity| self.findings.iter().filter(|f| f.severity == s).count();
        Severity::ALL
            .iter()
            .rev()
            .map(|s| (*s, count(*s)))
            .collect()
    }

    /// The worst severity.
    pub(crate) fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }

    pub(crate) fn verdict_count(&self, verdict: Verdict) -> usize {
        self.verdicts
            .iter()
            .filter(|v| v.verdict == verdict)
            .count()
    }

    /// The fingerprint of each finding, in their order: what it is and the code it is in, whatever
    /// stands around it. Equal ones of a file are told apart by their order.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        let mut seen: BTreeMap<[u8; 32], u32> = BTreeMap::new();
        self.findings
            .iter()
            .map(|f| {
                let code: Vec<&str> = f.snippet.split_whitespace().collect();
                // A finding without a place is its file's, and says in its message what it saw.
                let what = if f.line == 0 {
                    f.message.clone()
                } else {
                    code.join(" ")
                };
                let mut hash = Sha256::new();
                for part in [f.rule.id, f.severity.as_word(), &f.path, &what, &f.message] {
                    hash.update(part.as_bytes());
                    hash.update([0]);
                }
                let digest: [u8; 32] = hash.finalize().into();
                let n = seen.entry(digest).or_default();
                *n += 1;
                let own = Sha256::new()
                    .chain_update(digest)
                    .chain_update(n.to_be_bytes());
                base16ct::lower::encode_string(&own.finalize()[..16])
            })
            .collect()
    }

    /// The same, bound to the bytes of the file and to the steps that lead there: what somebody
    /// accepts is the code that they saw, not one line of it.
    pub(crate) fn bindings(&self) -> Vec<String> {
        let prints = self.fingerprints();
        let bind = |(f, print): (&Finding, String)| {
            let mut hash = Sha256::new();
            hash.update(&print);
            hash.update(&f.file_hash);
            for step in &f.steps {
                hash.update([0]);
                hash.update(&step.path);
                hash.update(&step.message);
            }
            base16ct::lower::encode_string(&hash.finalize()[..16])
        };
        self.findings.iter().zip(prints).map(bind).collect()
    }

    /// `1 critical, 3 medium`; those without a finding are left out.
    pub(crate) fn counts_text(&self) -> String {
        let counts = self.counts().into_iter().filter(|(_, n)| *n > 0);
        let words: Vec<String> = counts.map(|(s, n)| format!("{n} {s}")).collect();
        if words.is_empty() {
            "nothing found".into()
        } else {
            words.join(", ")
        }
    }

    /// Whether every file was parsed.
    pub(crate) fn is_complete(&self) -> bool {
        self.findings.iter().all(|f| *f.rule != CRASH)
    }
}

/// Worse first: the severity, then whether the purpose can be seen.
fn rank(f: &Finding) -> (std::cmp::Reverse<Severity>, bool) {
    (std::cmp::Reverse(f.severity), f.intent.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::carrier::rules::LINK_LEAVES;

    #[test]
    fn a_fingerprint_follows_the_code_and_not_its_line() {
        let found = |line: u32, snippet: &str| Finding {
            line,
            snippet: snippet.into(),
            ..Finding::about_file(&LINK_LEAVES, "a.py", String::new())
        };
        let prints = |findings: Vec<Finding>| {
            ScanReport {
                findings,
                ..ScanReport::default()
            }
            .fingerprints()
        };
        let one = prints(vec![found(3, "exec( x )")]);
        assert_eq!(one, prints(vec![found(9, "exec(  x )")]));
        assert_ne!(one, prints(vec![found(3, "exec(y)")]));
        let twice = prints(vec![found(3, "exec( x )"), found(4, "exec( x )")]);
        assert_eq!(twice[0], one[0]);
        assert_ne!(twice[0], twice[1]);
    }
}
