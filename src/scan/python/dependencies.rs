//! Which functions and modules must be read again since something that they looked at has changed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use rustc_hash::{FxHashMap as HashMap, FxHashSet as HashSet};

use super::values::{ClassId, FunctionId, ModuleId};

/// Something that reading one function tells others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fact {
    Summary(FunctionId),
    /// The variables that functions within it see.
    Captured(FunctionId),
    /// Attributes and bases.
    Class(ClassId),
    Globals(ModuleId),
}

/// What is read: a module's body comes before the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reading {
    Module(ModuleId),
    Function(FunctionId),
}

#[derive(Debug, Default)]
pub(super) struct Dependencies {
    readers: HashMap<Fact, Vec<Reading>>,
    seen: HashSet<(Reading, Fact)>,
    last: Option<(Reading, Fact)>,
    /// What is being read; modules that are imported within.
    now: Vec<Reading>,
    stale: BTreeSet<Reading>,
}

/// [`Dependencies`], which are noted while other parts of the reader are looked at.
#[derive(Debug, Default)]
pub(super) struct Noted(RefCell<Dependencies>);

impl Noted {
    /// Notes that what is read now has looked at `fact`.
    pub(super) fn look_at(&self, fact: Fact) {
        let mut all = self.0.borrow_mut();
        let Some(reading) = all.now.last().copied() else {
            return;
        };
        if all.last == Some((reading, fact)) {
            return;
        }
        all.last = Some((reading, fact));
        if all.seen.insert((reading, fact)) {
            all.readers.entry(fact).or_default().push(reading);
        }
    }

    /// Whoever has looked at `fact` must be read again.
    pub(super) fn change(&self, fact: Fact) {
        let all = &mut *self.0.borrow_mut();
        let readers = all.readers.get(&fact).map_or(&[][..], |r| r);
        all.stale.extend(readers.iter().copied());
    }

    pub(super) fn read_again(&self, reading: Reading) {
        self.0.borrow_mut().stale.insert(reading);
    }

    pub(super) fn begin(&self, reading: Reading) {
        let mut all = self.0.borrow_mut();
        all.stale.remove(&reading);
        all.now.push(reading);
    }

    pub(super) fn end(&self) {
        self.0.borrow_mut().now.pop();
    }

    pub(super) fn current(&self) -> Option<Reading> {
        self.0.borrow().now.last().copied()
    }

    /// All that must be read again, which is then forgotten.
    pub(super) fn take_stale(&self) -> Vec<Reading> {
        std::mem::take(&mut self.0.borrow_mut().stale)
            .into_iter()
            .collect()
    }
}
