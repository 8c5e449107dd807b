//! What a parser is at, as far as it has told: which file is to blame where it ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The files that a parser is at, each by one of its threads.
pub(super) struct ParserWatch {
    /// Since when it is at each of them.
    open: BTreeMap<String, Instant>,
    /// Whose code it reads while it follows data through all of them, and since when.
    followed: Option<(String, Instant)>,
    /// When it last told something.
    heard: Instant,
}

/// Which file a parser was at when it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Suspect {
    File(String),
    /// One of several: a parser with one thread will tell.
    Unclear,
}

impl ParserWatch {
    pub(super) fn new(now: Instant) -> ParserWatch {
        ParserWatch {
            open: BTreeMap::new(),
            followed: None,
            heard: now,
        }
    }

    pub(super) fn begin_file(&mut self, path: String, now: Instant) {
        self.open.insert(path, now);
        self.heard = now;
    }

    pub(super) fn end_file(&mut self, path: &str, now: Instant) {
        self.open.remove(path);
        self.heard = now;
    }

    pub(super) fn follow(&mut self, path: String, now: Instant) {
        self.followed = Some((path, now));
        self.heard = now;
    }

    pub(super) fn end_following(&mut self, now: Instant) {
        self.followed = None;
        self.heard = now;
    }

    fn at(&self) -> impl Iterator<Item = (&String, &Instant)> {
        let followed = self.followed.iter().map(|(path, since)| (path, since));
        self.open.iter().chain(followed)
    }

    /// The file that it has been at for longer than `patience`; an empty path if it is at none, and
    /// has told nothing.
    pub(super) fn overdue(&self, patience: Duration, now: Instant) -> Option<String> {
        let late = |since: &Instant| now.saturating_duration_since(*since) > patience;
        match self.at().min_by_key(|(_, since)| **since) {
            Some((path, since)) => late(since).then(|| path.clone()),
            None => late(&self.heard).then(String::new),
        }
    }

    /// Whom to blame for its end.
    pub(super) fn suspect(&self) -> Suspect {
        let mut at = self.at();
        match (at.next(), at.next()) {
            (Some((path, _)), None) => Suspect::File(path.clone()),
            (Some(_), Some(_)) => Suspect::Unclear,
            (None, _) => Suspect::File(String::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_a_parser_was_at_is_to_blame_and_no_other() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let minute = Duration::from_secs(60);
        let file = |path: &str| Suspect::File(path.into());
        let mut watch = ParserWatch::new(start);
        assert_eq!(watch.suspect(), file(""));
        watch.begin_file("a".into(), at(0));
        assert_eq!(watch.suspect(), file("a"));
        watch.begin_file("b".into(), at(30));
        assert_eq!(watch.suspect(), Suspect::Unclear);
        // One thread hangs while the other goes on.
        watch.end_file("b", at(59));
        watch.begin_file("c".into(), at(59));
        assert_eq!(watch.overdue(minute, at(60)), None);
        assert_eq!(watch.overdue(minute, at(61)).as_deref(), Some("a"));
        watch.end_file("a", at(62));
        assert_eq!(watch.suspect(), file("c"));
        watch.end_file("c", at(63));
        watch.follow("d".into(), at(64));
        assert_eq!(watch.suspect(), file("d"));
        watch.begin_file("e".into(), at(70));
        assert_eq!(watch.suspect(), Suspect::Unclear);
        assert_eq!(watch.overdue(minute, at(124)), None);
        assert_eq!(watch.overdue(minute, at(125)).as_deref(), Some("d"));
        watch.end_following(at(126));
        assert_eq!(watch.suspect(), file("e"));
        watch.end_file("e", at(127));
        assert_eq!(watch.overdue(minute, at(187)), None);
        assert_eq!(watch.overdue(minute, at(188)).as_deref(), Some(""));
    }
}
