//! Which of many changes breaks something, found by halves. [`PrefixSearch`] decides what is tried
//! next, [`mixture`] makes the two files of a try.
//!
//! The changes stand in a row, and what is tried is always a beginning of the row: nothing of it is
//! known to work, all of it is known to fail, and so there is a place where one more change makes
//! the difference. That holds whatever the changes need of each other.

pub(crate) mod mixture;

use std::collections::BTreeSet;

/// What a try showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Good,
    Bad,
    /// It could not be judged.
    Skip,
}

/// The search for the shortest beginning of a row that fails.
#[derive(Debug, Clone)]
pub(crate) struct PrefixSearch {
    /// A beginning of this length works.
    good: usize,
    /// One of this length fails.
    bad: usize,
    skipped: BTreeSet<usize>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Try a beginning of this length.
    Try(usize),
    /// The change at this place breaks it: all before it work together.
    Found(usize),
    /// One of these places; what lies between could not be judged.
    Between(std::ops::Range<usize>),
}

impl PrefixSearch {
    /// For a row of this length, none of which works and all of which fails.
    pub(crate) fn new(length: usize) -> PrefixSearch {
        PrefixSearch {
            good: 0,
            bad: length,
            skipped: BTreeSet::new(),
        }
    }

    pub(crate) fn next_step(&self) -> NextStep {
        if self.bad <= self.good + 1 {
            return NextStep::Found(self.good);
        }
        // The middle, or what is nearest to it.
        let middle = self.good + (self.bad - self.good) / 2;
        let open = (self.good + 1..self.bad).filter(|n| !self.skipped.contains(n));
        match open.min_by_key(|n| n.abs_diff(middle)) {
            Some(n) => NextStep::Try(n),
            None => NextStep::Between(self.good..self.bad),
        }
    }

    pub(crate) fn record(&mut self, length: usize, verdict: Verdict) {
        match verdict {
            Verdict::Good => self.good = self.good.max(length),
            Verdict::Bad => self.bad = self.bad.min(length),
            Verdict::Skip => drop(self.skipped.insert(length)),
        }
    }

    /// Returns how many more tries there are at most, if none is skipped.
    pub(crate) fn tries_left(&self) -> u32 {
        usize::BITS - (self.bad - self.good).saturating_sub(1).leading_zeros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search; returns its end and the number of tries.
    fn search(length: usize, judge: impl Fn(usize) -> Verdict) -> (NextStep, usize) {
        let (mut search, mut tries) = (PrefixSearch::new(length), 0);
        loop {
            let most = search.tries_left() as usize;
            match search.next_step() {
                NextStep::Try(n) => {
                    assert!(0 < n && n < length, "the ends are known");
                    tries += 1;
                    search.record(n, judge(n));
                    assert!(search.tries_left() as usize <= most);
                }
                end => return (end, tries),
            }
        }
    }

    #[test]
    fn one_of_forty_is_found_in_six_tries_wherever_it_is() {
        for length in 1..=40 {
            for culprit in 0..length {
                let judge = |n: usize| match n > culprit {
                    true => Verdict::Bad,
                    false => Verdict::Good,
                };
                let (end, tries) = search(length, judge);
                assert_eq!(end, NextStep::Found(culprit));
                assert!(tries <= 6, "{tries} tries for {culprit} of {length}");
            }
        }
    }

    #[test]
    fn whatever_the_changes_need_of_each_other_the_place_found_is_a_true_one() {
        // Any pattern of working and failing beginnings, with nothing working and all failing.
        for pattern in 0..1_u32 << 10 {
            let bad = |n: usize| n == 11 || (n > 0 && pattern >> (n - 1) & 1 == 1);
            let judge = |n: usize| if bad(n) { Verdict::Bad } else { Verdict::Good };
            let (NextStep::Found(at), _) = search(11, judge) else {
                panic!("not found");
            };
            assert!(!bad(at) && bad(at + 1), "{pattern:b}: {at}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_gone_around() {
        let judge = |n: usize| match n {
            4..=5 => Verdict::Skip,
            n if n > 6 => Verdict::Bad,
            _ => Verdict::Good,
        };
        assert_eq!(search(9, judge).0, NextStep::Found(6));
        let judge = |n: usize| match n {
            4..=5 => Verdict::Skip,
            n if n > 4 => Verdict::Bad,
            _ => Verdict::Good,
        };
        assert_eq!(search(9, judge).0, NextStep::Between(3..6));
    }
}
