//! The confinement for people: what is allowed, and why.

use super::{Confinement, May};

/// One line a rule, by what may be done.
pub fn text(c: &Confinement) -> String {
    let mut out = String::from("files: these alone, as far as accounts and modes allow\n");
    let width = c.rules.iter().map(|r| r.path.display().to_string().chars().count()).max().unwrap_or(0).min(60);
    for r in &c.rules {
        let word = match r.may {
            May::Read => "read",
            May::Run => "read, run",
            May::Write => "read, write",
            May::Device => "device",
        };
        out += &format!("  {word:<11} {:<width$}  {}\n", crate::text::escape(&r.path.to_string_lossy()), r.why);
    }
    out.trim_end().to_string()
}
