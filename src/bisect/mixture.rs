//! The comfy.toml and comfy.lock of one try: a part of the nodes, or a part of what moved between
//! two locks.

use std::collections::BTreeSet;

use toml_edit::{DocumentMut, Item, Table, value};

use crate::lock::difference::LockDifference;
use crate::lock::python::LockedPackage;
use crate::lock::{Lock, LockedPython};
use crate::manifest::Manifest;
use crate::problem::{Context, Problem, Result};
use crate::text::count_of;

/// A comfy.toml with its comfy.lock.
#[derive(Clone)]
pub(crate) struct LockState {
    pub manifest: String,
    pub lock: Lock,
}

/// One change of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A node is enabled.
    Enable(String),
    /// Python, its settings and all packages.
    Python,
    Comfyui,
    Node(String),
    /// The interpreter that comfy installs.
    Interpreter,
    Package(String),
}

impl Unit {
    /// Its name, as messages have it.
    pub(crate) fn name(&self) -> String {
        match self {
            Unit::Enable(node) | Unit::Node(node) => format!("node.{node}"),
            Unit::Python => "python".into(),
            Unit::Comfyui => "comfyui".into(),
            Unit::Interpreter => "the interpreter".into(),
            Unit::Package(name) => name.clone(),
        }
    }

    /// What moves with it, in one line.
    pub(crate) fn moves(&self, moved: &LockDifference) -> String {
        let python = moved.python.is_some() as usize + moved.interpreter.is_some() as usize;
        let own = match self {
            Unit::Enable(_) => return String::new(),
            Unit::Comfyui => moved.about("comfyui"),
            Unit::Node(name) | Unit::Package(name) => moved.about(name),
            Unit::Interpreter => moved.about("python"),
            Unit::Python if moved.packages.len() + python > 3 => {
                return count_of(moved.packages.len(), "package");
            }
            Unit::Python => LockDifference {
                pins: Vec::new(),
                models: Vec::new(),
                ..moved.clone()
            },
        };
        own.summary()
    }
}

/// A row of changes that leads from a state that works to one that fails.
pub(crate) struct Row {
    /// Where nothing of the row has happened.
    good: LockState,
    /// Where all of it has.
    bad: LockState,
    pub units: Vec<Unit>,
}

impl Row {
    /// The enabled nodes of a state, one after another.
    pub(crate) fn of_nodes(manifest: &Manifest, state: LockState) -> Row {
        let enabled = manifest.nodes.iter().filter(|(_, n)| n.enabled);
        Row {
            units: enabled
                .map(|(name, _)| Unit::Enable(name.clone()))
                .collect(),
            good: state.clone(),
            bad: state,
        }
    }

    /// What moved between two states: Python first, since nodes need its packages.
    pub(crate) fn of_pins(good: LockState, bad: LockState) -> Row {
        let moved = LockDifference::between(Some(&good.lock), &bad.lock);
        let mut units = Vec::new();
        if good.lock.python != bad.lock.python {
            units.push(Unit::Python);
        }
        units.extend(moved.pins.iter().map(|pin| match pin.name.as_str() {
            "comfyui" => Unit::Comfyui,
            node => Unit::Node(node.into()),
        }));
        Row { good, bad, units }
    }

    /// The packages of the [`Unit::Python`] at `place`, after the changes before it; `None` where
    /// they cannot be taken apart, since the settings of Python moved too.
    pub(crate) fn within_python(&self, place: usize) -> Option<Row> {
        let (good, bad) = (
            self.good.lock.python.as_ref()?,
            self.bad.lock.python.as_ref()?,
        );
        let settings = |p: &LockedPython| LockedPython {
            managed: None,
            packages: Vec::new(),
            ..p.clone()
        };
        if settings(good) != settings(bad) {
            return None;
        }
        let moved = LockDifference::between(Some(&self.good.lock), &self.bad.lock);
        let interpreter = moved.interpreter.iter().map(|_| Unit::Interpreter);
        let packages = moved.packages.iter().map(|p| Unit::Package(p.name.clone()));
        let units: Vec<Unit> = interpreter.chain(packages).collect();
        if units.len() < 2 {
            return None;
        }
        Some(Row {
            good: self.state_with(&self.units[..place]).ok()?,
            bad: self.state_with(&self.units[..=place]).ok()?,
            units,
        })
    }

    /// Returns what moved along the row.
    pub(crate) fn moved(&self) -> LockDifference {
        LockDifference::between(Some(&self.good.lock), &self.bad.lock)
    }

    /// Makes the state in which exactly these changes of the row have happened.
    ///
    /// # Errors
    /// comfy.toml has a form that cannot be taken apart.
    pub(crate) fn state_with(&self, happened: &[Unit]) -> Result<LockState> {
        let mut state = self.bad.clone();
        let read = |text: &str| text.parse::<DocumentMut>().context("read comfy.toml");
        let (mut manifest, earlier) = (read(&state.manifest)?, read(&self.good.manifest)?);
        let mut packages = BTreeSet::new();
        for unit in self.units.iter().filter(|u| !happened.contains(u)) {
            let good = &self.good.lock;
            match unit {
                Unit::Enable(node) => disable_node(&mut manifest, node)?,
                Unit::Python => {
                    state.lock.python = good.python.clone();
                    replace_item(manifest.as_table_mut(), earlier.as_table(), "python");
                }
                Unit::Comfyui => {
                    state.lock.comfyui = good.comfyui.clone();
                    take_asks(&mut state.lock, good, "comfyui");
                    let core = section(&mut manifest, "comfyui")?;
                    let before = earlier.get("comfyui").and_then(Item::as_table_like);
                    for key in ["repo", "ref"] {
                        match before.and_then(|b| b.get(key)) {
                            Some(item) => drop(core.insert(key, item.clone())),
                            None => drop(core.remove(key)),
                        }
                    }
                }
                Unit::Node(node) => {
                    match good.nodes.get(node) {
                        Some(pin) => drop(state.lock.nodes.insert(node.clone(), pin.clone())),
                        None => drop(state.lock.nodes.remove(node)),
                    }
                    take_asks(&mut state.lock, good, &format!("node.{node}"));
                    let nodes = section(&mut manifest, "nodes")?;
                    let before = earlier.get("nodes").and_then(Item::as_table_like);
                    match before.and_then(|b| b.get(node)) {
                        Some(item) => drop(nodes.insert(node, item.clone())),
                        None => drop(nodes.remove(node)),
                    }
                }
                Unit::Interpreter => {
                    if let (Some(now), Some(before)) = (&mut state.lock.python, &good.python) {
                        now.managed.clone_from(&before.managed);
                    }
                }
                Unit::Package(name) => drop(packages.insert(name.as_str())),
            }
        }
        if let (Some(now), Some(before)) = (&mut state.lock.python, &self.good.lock.python) {
            take_packages(&mut now.packages, &before.packages, &packages);
        }
        state.manifest = manifest.to_string();
        Ok(state)
    }
}

/// Puts the packages of these names back to what they were.
fn take_packages(now: &mut Vec<LockedPackage>, before: &[LockedPackage], names: &BTreeSet<&str>) {
    if names.is_empty() {
        return;
    }
    now.retain(|p| !names.contains(p.name.as_str()));
    let earlier = before.iter().filter(|p| names.contains(p.name.as_str()));
    now.extend(earlier.cloned());
    now.sort_by(|a, b| {
        let key = |p: &LockedPackage| (p.name.clone(), p.version.clone(), p.index.clone());
        key(a).cmp(&key(b))
    });
}

fn take_asks(now: &mut Lock, before: &Lock, address: &str) {
    match before.asks.get(address) {
        Some(asks) => drop(now.asks.insert(address.into(), asks.clone())),
        None => drop(now.asks.remove(address)),
    }
}

fn replace_item(now: &mut Table, before: &Table, key: &str) {
    match before.get(key) {
        Some(item) => drop(now.insert(key, item.clone())),
        None => drop(now.remove(key)),
    }
}

fn section<'a>(
    document: &'a mut DocumentMut,
    name: &str,
) -> Result<&'a mut dyn toml_edit::TableLike> {
    let item = document.entry(name).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    item.as_table_like_mut()
        .ok_or_else(|| Problem::new(format!("`{name}` in comfy.toml is not a table")))
}

fn disable_node(document: &mut DocumentMut, node: &str) -> Result<()> {
    let settings = section(document, "nodes")?.get_mut(node);
    let settings = settings.and_then(Item::as_table_like_mut);
    let settings = settings
        .ok_or_else(|| Problem::new(format!("`nodes.{node}` in comfy.toml is not a table")))?;
    settings.insert("enabled", value(false));
    Ok(())
}
