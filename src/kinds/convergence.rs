//! The property that everything rests on:
//! random manifest × random machine × a failure after step k → apply again → an empty plan.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::desired::system_files::ComfyProgram;
use crate::desired::{Desired, InstancePaths};
use crate::ids::{GenerationId, Part, VenvId};
use crate::lock::Sha256Digest;
use crate::manifest::platforms::OperatingSystem;
use crate::plan::ids::AccountIds;
use crate::plan::inventory::Inventory;
use crate::plan::look::{Act, Look};
use crate::plan::observed::{DifferenceKind, FileType, FsEntry, TreeDifference};
use crate::plan::select::ResourceSelection;
use crate::plan::step::Step;
use crate::plan::{Action, Plan, execute};
use crate::problem::{Problem, Result};
use crate::testing::{Locked, MachineState, MemoryExecutor, MemoryHost, SilentObserver, desired};

/// Fails at one step: before it, or after it and before anything is noted.
struct Failing<'a> {
    hands: MemoryExecutor<'a>,
    left: Cell<usize>,
    after: bool,
}

impl Act for Failing<'_> {
    fn perform_step(&mut self, step: &Step) -> Result<()> {
        let last = self.left.get() == 0;
        self.left.set(self.left.get().saturating_sub(1));
        if last && !self.after {
            return Err(Problem::new("failed before the step"));
        }
        self.hands.perform_step(step)?;
        if last {
            Err(Problem::new("failed after the step"))
        } else {
            Ok(())
        }
    }

    fn write_inventory(&mut self, inventory: &Inventory) -> Result<()> {
        self.hands.write_inventory(inventory)
    }
}

/// A manifest and a lock from a few bits.
fn wish(bits: u32) -> Desired {
    let on = |n: u32| bits >> n & 1 == 1;
    let mut text = String::new();
    if on(0) {
        text += "view = \"~/view\"\n";
    }
    if on(1) {
        text += "[host]\ngid = 777\n";
    }
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        if on(2 + i as u32) {
            text += &format!(
                "[nodes.{name}]\nrepo = \"https://github.com/x/{name}\"\nref = \"main\"\nenabled = \
                 {}\n",
                !on(5) || i > 0
            );
        }
    }
    let home = if on(7) { "~" } else { "/srv" };
    for (i, (name, mount)) in [
        ("models", "models"),
        ("out", "output"),
        ("wf", "user/default/wf"),
    ]
    .into_iter()
    .enumerate()
    {
        if on(8 + i as u32) {
            let access = ["read", "write", "add"][(bits >> (11 + i)) as usize % 3];
            text += &format!(
                "[shares.{name}]\npath = \"{home}/ai/{name}\"\nmount = \"{mount}\"\naccess = \
                 \"{access}\"\n"
            );
        }
    }
    if on(8) && on(17) {
        let source = "https://x.test/m";
        text += &format!("[models.\"m.safetensors\"]\nsource = \"{source}\"\n");
    }
    text += &format!("[run]\npasswordless = {}\nboot = {}\n", on(19), on(20));
    let locked = Locked {
        comfyui: bits >> 15 & 1,
        nodes: bits >> 6 & 1,
        model: (bits >> 18 & 1) as u8,
        os: OperatingSystem::from(on(16)),
    };
    desired(&text, &locked)
}

/// Something that happens to a machine.
fn happen(s: &mut MachineState, paths: &InstancePaths, what: u8, which: u8) {
    let pick = |n: usize| which as usize % n.max(1);
    match what % 15 {
        0 => drop(s.users.remove("comfyui_sandbox")),
        1 => {
            if let Some((_, m)) = s.groups.get_mut("comfyshared") {
                let name = m.iter().nth(pick(m.len())).cloned();
                name.map(|n| m.remove(&n));
            }
        }
        2 => {
            let names: Vec<String> = ["comfyshared", "comfyui_sandbox"].map(String::from).into();
            s.groups.remove(&names[pick(2)]);
        }
        3 => {
            let all: Vec<PathBuf> = s
                .nodes
                .iter()
                .filter(|(p, n)| {
                    n.kind == FileType::Dir
                        && (p.starts_with(&paths.base) || p.starts_with("/srv/ai"))
                })
                .map(|(p, _)| p.clone())
                .collect();
            if let Some(p) = all.get(pick(all.len())) {
                s.nodes.get_mut(p).unwrap().mode = 0o700 + u32::from(which % 64);
            }
        }
        4 => {
            let all: Vec<PathBuf> = s
                .nodes
                .keys()
                .filter(|p| p.starts_with(&paths.base) && **p != paths.base)
                .cloned()
                .collect();
            if let Some(p) = all.get(pick(all.len())).cloned() {
                s.remove(&p);
            }
        }
        5 => {
            let all: Vec<PathBuf> = s
                .nodes
                .iter()
                .filter(|(_, n)| n.kind == FileType::Link)
                .map(|(p, _)| p.clone())
                .collect();
            if let Some(p) = all.get(pick(all.len())) {
                s.nodes.get_mut(p).unwrap().target = Some("/tmp/elsewhere".into());
            }
        }
        6 if which & 1 == 1 => {
            let all: Vec<VenvId> = s.venvs.keys().cloned().collect();
            let finding = TreeDifference {
                path: "bin/python".into(),
                what: DifferenceKind::Link,
                detail: String::new(),
            };
            if let Some(id) = all.get(pick(all.len())) {
                if which & 2 == 0 {
                    drop(s.venvs.remove(id))
                } else {
                    s.venvs.entry(id.clone()).or_default().push(finding)
                }
            }
        }
        6 => {
            let all: Vec<GenerationId> = s.gens.keys().cloned().collect();
            if let Some(id) = all.get(pick(all.len())) {
                s.gens.remove(id);
            }
        }
        7 | 8 => {
            if let Some((spec, c)) = s.gens.values_mut().next() {
                let part = spec
                    .pins()
                    .map(|(n, _)| n)
                    .nth(pick(4))
                    .unwrap_or(Part::Comfyui);
                if what % 15 == 7 {
                    c.findings.entry(part).or_default().push(TreeDifference {
                        path: "x.py".into(),
                        what: DifferenceKind::Edited,
                        detail: String::new(),
                    });
                } else {
                    c.foreign.push(format!("evil{which}"));
                }
            }
        }
        9 | 10 => {
            for share in ["/srv/ai/models", "/srv/ai/out", "/home/alice/ai/wf"] {
                if s.node(Path::new(share)).is_some() {
                    let kind = if which & 1 == 0 {
                        FileType::File
                    } else {
                        FileType::Dir
                    };
                    let uid = if which & 2 == 0 { 1000 } else { 402 };
                    s.nodes.insert(
                        Path::new(share).join(format!("e{which}")),
                        FsEntry {
                            kind,
                            uid,
                            gid: 1000,
                            mode: 0o600 + u32::from(which % 128),
                            target: None,
                        },
                    );
                }
            }
        }
        11 if which & 1 == 0 => s.system_python = !s.system_python,
        11 => {
            let finding = TreeDifference {
                path: "bin/python3.12".into(),
                what: DifferenceKind::Edited,
                detail: String::new(),
            };
            if which & 2 == 0 {
                s.pythons.clear()
            } else {
                s.pythons.values_mut().for_each(|f| f.push(finding.clone()))
            }
        }
        12 => {
            for (size, sha256) in s.models.values_mut() {
                (*size, *sha256) = (7 + u64::from(which & 1), Sha256Digest([which; 32]));
            }
        }
        13 => {
            s.launcher = s
                .launcher
                .clone()
                .filter(|_| which & 1 == 1)
                .map(|p| ComfyProgram { uid: 1000, ..p });
            s.system.values_mut().for_each(|t| t.push('x'));
        }
        _ => s.entries.clear(),
    }
}

#[test]
fn without_a_free_pair_of_ids_the_message_names_the_range_of_pairs() {
    let machine = MemoryHost::fresh();
    machine.with(|s| {
        let mut sandbox = s.users["alice"].clone();
        (sandbox.name, sandbox.uid, sandbox.gid) = ("comfyui_sandbox".into(), 7_000, 7_000);
        s.users.insert(sandbox.name.clone(), sandbox);
        s.pairs = (58_400..=58_599).step_by(2).map(|b| (b, b)).collect();
    });
    let why = AccountIds::choose_ids(&wish(0), &machine).unwrap_err();
    assert!(why.message.contains("between 58400 and 58599"), "{why}");
}

fn differences(p: &Plan) -> Vec<String> {
    p.changes
        .iter()
        .filter(|c| c.is_difference())
        .map(|c| {
            format!(
                "{} {:?} {:?} -> {:?} {:?}",
                c.address, c.action, c.before, c.after, c.reason
            )
        })
        .chain(p.steps.iter().map(|s| format!("{:?}", s.step)))
        .collect()
}

/// Plans and applies; `None` where the plan is blocked.
fn apply(machine: &MemoryHost, d: &Desired, fail: Option<(usize, bool)>) -> Option<Result<()>> {
    let plan = crate::kinds::plan(d, machine, &ResourceSelection::default()).unwrap();
    if plan.changes.iter().any(|c| c.action == Action::Blocked) {
        return None;
    }
    let mut inventory = machine.read_inventory(&d.paths).unwrap();
    let hands = MemoryExecutor {
        machine,
        paths: d.paths.clone(),
    };
    let (left, after) = fail.unwrap_or((usize::MAX, false));
    let mut act = Failing {
        hands,
        left: Cell::new(left),
        after,
    };
    // A killed process leaves no staged generation that the next one would use.
    machine.with(|s| {
        s.staged.clear();
        s.staged_venvs.clear();
        s.fetched.clear();
    });
    let result = execute::execute_steps(
        &plan,
        &mut act,
        &mut inventory,
        &mut SilentObserver::default(),
    );
    if result.is_ok() {
        execute::remember_attributes(&plan, &mut inventory);
        act.write_inventory(&inventory).unwrap();
    }
    Some(result)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_there_and_wherever_it_failed_one_more_apply_ends_clean(
        before in any::<u32>(), asked in any::<u32>(), events in prop::collection::vec((any::<u8>(), any::<u8>()), 0..10), step in 0usize..50, after in any::<bool>(),
    ) {
        let machine = MemoryHost::fresh();
        let (first, second) = (wish(before & !(1 << 16) | asked & (1 << 16)), wish(asked));
        // Some earlier wish, applied or half applied; then things happen; then another wish that
        // fails half way.
        let _ = apply(&machine, &first, (before & 1 << 24 != 0).then_some((step, !after)));
        machine.with(|s| events.iter().for_each(|(what, which)| happen(s, &second.paths, *what, *which)));
        if let Err(e) = crate::kinds::plan(&second, &machine, &ResourceSelection::default()) {
            // The one contradiction that these wishes can hold: another gid than the group has.
            prop_assert!(e.message.contains("host.gid asks for"), "{e}");
            return Ok(());
        }
        let Some(_) = apply(&machine, &second, Some((step, after))) else { return Ok(()) };
        let done = apply(&machine, &second, None).unwrap();
        prop_assert!(done.is_ok(), "{done:?}");
        let plan = crate::kinds::plan(&second, &machine, &ResourceSelection::default()).unwrap();
        prop_assert!(plan.is_empty(), "{:#?}", differences(&plan));
        // And destroy takes all of it away, but for a link that somebody led elsewhere.
        let gone = crate::kinds::destroy(&second, &machine, true, "now").unwrap();
        let mut inventory = machine.read_inventory(&second.paths).unwrap();
        let mut hands = MemoryExecutor { machine: &machine, paths: second.paths.clone() };
        execute::execute_steps(&gone, &mut hands, &mut inventory, &mut SilentObserver::default()).unwrap();
        let left: Vec<PathBuf> = machine.with(|s| s.nodes.iter().filter(|(p, n)| p.starts_with(&second.paths.base) || n.gid == 401 || (n.kind == FileType::Link && n.target.as_deref() != Some(Path::new("/tmp/elsewhere")))).map(|(p, _)| p.clone()).collect());
        prop_assert!(left.is_empty(), "{left:?}");
        prop_assert!(machine.with(|s| s.groups.keys().cloned().collect::<Vec<_>>()) == ["alice"]);
    }
}
