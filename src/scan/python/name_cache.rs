//! Values that are names alone, made once for each name: a node writes the same ones again and
//! again.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap as HashMap;

use super::call_facts::CallFacts;
use super::names;
use super::values::Value;

/// Names that are kept; a source that is made for it has millions.
const MOST_KEPT: usize = 50_000;

type ByName<T> = HashMap<Box<str>, T>;

#[derive(Debug, Default)]
pub(super) struct NameCache {
    unbound: RefCell<ByName<Value>>,
    called: RefCell<ByName<Value>>,
    facts: RefCell<ByName<Rc<CallFacts>>>,
    attributes: RefCell<ByName<ByName<Value>>>,
    attribute_count: RefCell<usize>,
}

impl NameCache {
    /// What a name means that nothing of the node defines.
    pub(super) fn unbound(&self, name: &str) -> Value {
        kept(&self.unbound, name, || match names::unbound(name) {
            Some(full) => Value::named(&full),
            None => Value::named(&format!("?{name}")),
        })
    }

    /// What a call of a library's function gives back.
    pub(super) fn called(&self, name: &str) -> Value {
        kept(&self.called, name, || Value::named(&format!("{name}()")))
    }

    pub(super) fn facts(&self, name: &str) -> Rc<CallFacts> {
        kept(&self.facts, name, || Rc::new(CallFacts::of(name)))
    }

    /// The attribute of what has a name ([`names::attribute_name`]).
    pub(super) fn attribute(&self, name: &str, attribute: &str) -> Value {
        let mut all = self.attributes.borrow_mut();
        if let Some(known) = all.get(name).and_then(|own| own.get(attribute)) {
            return known.clone();
        }
        let value = Value::named(&names::attribute_name(name, attribute));
        let mut count = self.attribute_count.borrow_mut();
        if *count < MOST_KEPT {
            *count += 1;
            let own = all.entry(name.into()).or_default();
            own.insert(attribute.into(), value.clone());
        }
        value
    }
}

fn kept<T: Clone>(cache: &RefCell<ByName<T>>, name: &str, make: impl FnOnce() -> T) -> T {
    let mut cache = cache.borrow_mut();
    if let Some(known) = cache.get(name) {
        return known.clone();
    }
    let value = make();
    if cache.len() < MOST_KEPT {
        cache.insert(name.into(), value.clone());
    }
    value
}
