//! What a function does with what it is given, told to its callers.

use std::rc::Rc;

use super::rules::FlowRule;
use super::taint::Place;
use super::values::Value;

/// A function tells so many sinks.
pub(super) const MOST_SINKS: usize = 48;

/// What a function does besides returning, as bits.
pub(super) mod effects {
    pub(in crate::scan::python) const WRITES: u8 = 1;
    pub(in crate::scan::python) const REMOVES: u8 = 2;
    pub(in crate::scan::python) const RUNS: u8 = 4;
    pub(in crate::scan::python) const INSTALLS: u8 = 8;
    pub(in crate::scan::python) const RESTARTS: u8 = 16;
    pub(in crate::scan::python) const CONNECTS: u8 = 32;
    pub(in crate::scan::python) const READS: u8 = 64;
    /// It compares something of the sender with something.
    pub(in crate::scan::python) const ASKS_SENDER: u8 = 128;
}

/// A parameter reaches a place where it must not be what somebody else decides.
#[derive(Debug, Clone)]
pub(super) struct ParameterSink {
    pub parameter: u16,
    pub rule: &'static FlowRule,
    pub name: Rc<str>,
    pub place: Place,
    /// Bits that were checked on the way.
    pub cleared: u8,
    /// The calls between, outermost first.
    pub through: Vec<(Place, Rc<str>)>,
}

#[derive(Debug, Clone)]
pub(super) struct Summary {
    pub returns: Value,
    pub sinks: Vec<ParameterSink>,
    /// Parameters that are checked, and for what.
    pub checks: Vec<(u16, u8)>,
    pub effects: u8,
}

impl Summary {
    pub(super) const NOTHING: Summary = Summary {
        returns: Value::UNKNOWN,
        sinks: Vec::new(),
        checks: Vec::new(),
        effects: 0,
    };

    pub(super) fn add_sink(&mut self, sink: ParameterSink) {
        let same = |s: &ParameterSink| {
            s.parameter == sink.parameter
                && s.place == sink.place
                && std::ptr::eq(s.rule, sink.rule)
        };
        let room = self.sinks.len() < MOST_SINKS;
        match self.sinks.iter_mut().find(|s| same(s)) {
            Some(known) => known.cleared &= sink.cleared,
            None if room => self.sinks.push(sink),
            None => {}
        }
    }

    pub(super) fn add_check(&mut self, parameter: u16, bits: u8) {
        match self.checks.iter_mut().find(|(p, _)| *p == parameter) {
            Some(known) => known.1 |= bits,
            None => self.checks.push((parameter, bits)),
        }
    }

    /// Whether callers would see a difference.
    pub(super) fn differs(&self, other: &Summary) -> bool {
        self.returns != other.returns
            || self.sinks.len() != other.sinks.len()
            || self.checks != other.checks
            || self.effects != other.effects
    }
}
