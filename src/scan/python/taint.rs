//! Where data comes from, and the way it took.

use std::rc::Rc;

/// A value remembers so many origins.
const MOST_ORIGINS: usize = 6;
/// A way that is longer is told without its middle.
const MOST_STEPS: usize = 16;

/// Who decides what the data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum SourceKind {
    /// The caller of this function: whoever that is.
    Parameter,
    /// A request that the browser, or another program, sends.
    Request,
    /// A text that a workflow holds.
    NodeInput,
    /// A reply of another machine.
    Remote,
    /// What another machine sends over a socket.
    Peer,
    /// Data that was encoded in the source.
    Decoded,
    /// Environment, keys, contents of files.
    Secret,
    /// The whole environment, key files and the like.
    Credential,
    /// Who the machine and its user are.
    HostInfo,
    /// Content of a file.
    FileContent,
    /// Arguments of the command line, one variable of the environment, typed input.
    Argument,
}

impl SourceKind {
    pub(super) fn phrase(self) -> &'static str {
        match self {
            SourceKind::Parameter => "a parameter",
            SourceKind::Request => "a request",
            SourceKind::NodeInput => "an input of the node",
            SourceKind::Remote => "a reply from the network",
            SourceKind::Peer => "what a socket receives",
            SourceKind::Decoded => "decoded data",
            SourceKind::Secret => "a variable of the environment that holds a secret",
            SourceKind::Credential => "credentials",
            SourceKind::HostInfo => "facts about the machine and its user",
            SourceKind::FileContent => "the content of a file",
            SourceKind::Argument => "an argument or a variable of the environment",
        }
    }
}

/// What a check on the way rules out, as bits.
pub(super) mod cleared {
    pub(in crate::scan::python) const PATH: u8 = 1;
    pub(in crate::scan::python) const URL: u8 = 2;
    pub(in crate::scan::python) const COMMAND: u8 = 4;
    pub(in crate::scan::python) const CODE: u8 = 8;
    /// `..` was looked for.
    pub(in crate::scan::python) const PARENT: u8 = 16;
    /// A leading or inner `/` was looked for.
    pub(in crate::scan::python) const SLASH: u8 = 32;
    pub(in crate::scan::python) const ALL: u8 = PATH | URL | COMMAND | CODE;

    /// Both halves of a check of a path are a whole one.
    pub(in crate::scan::python) fn complete(bits: u8) -> u8 {
        if bits & (PARENT | SLASH) == PARENT | SLASH {
            bits | PATH
        } else {
            bits
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum OriginId {
    Parameter(u16),
    /// A parameter of the function that this one stands in.
    Outer {
        function: u32,
        parameter: u16,
    },
    Place {
        module: u32,
        offset: u32,
    },
}

/// A place that data passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub module: u32,
    pub offset: u32,
}

#[derive(Debug)]
pub(super) struct Step {
    pub place: Place,
    pub message: Rc<str>,
    pub before: Option<Rc<Step>>,
    length: usize,
}

impl Step {
    pub(super) fn first(place: Place, message: &str) -> Rc<Step> {
        Rc::new(Step {
            place,
            message: Rc::from(message),
            before: None,
            length: 1,
        })
    }

    pub(super) fn after(before: Option<Rc<Step>>, place: Place, message: &str) -> Option<Rc<Step>> {
        let length = before.as_ref().map_or(0, |s| s.length);
        if length >= MOST_STEPS || before.as_ref().is_some_and(|s| s.place == place) {
            return before;
        }
        Some(Rc::new(Step {
            place,
            message: Rc::from(message),
            before,
            length: length + 1,
        }))
    }

    /// From the first to the last.
    pub(super) fn in_order(last: Option<&Rc<Step>>) -> Vec<&Step> {
        let mut steps: Vec<&Step> = Vec::new();
        let mut next = last.map(|s| &**s);
        while let Some(step) = next {
            steps.push(step);
            next = step.before.as_deref();
        }
        steps.reverse();
        steps
    }
}

/// A chain can be long, and dropping one link at a time must not recurse.
impl Drop for Step {
    fn drop(&mut self) {
        let mut before = self.before.take();
        while let Some(step) = before {
            match Rc::try_unwrap(step) {
                Ok(mut inner) => before = inner.before.take(),
                Err(_) => break,
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub id: OriginId,
    pub kind: SourceKind,
    /// Bits of [`cleared`].
    pub cleared: u8,
    pub steps: Option<Rc<Step>>,
}

/// The way is told, not compared.
impl PartialEq for Origin {
    fn eq(&self, other: &Origin) -> bool {
        (self.id, self.kind, self.cleared) == (other.id, other.kind, other.cleared)
    }
}

/// Where the data of a value comes from.
#[derive(Debug, Clone)]
pub(super) struct Taint(Option<Rc<Vec<Origin>>>);

/// In whatever order they were met.
impl PartialEq for Taint {
    fn eq(&self, other: &Taint) -> bool {
        if let (Some(a), Some(b)) = (&self.0, &other.0)
            && Rc::ptr_eq(a, b)
        {
            return true;
        }
        let (own, others) = (self.origins(), other.origins());
        own.len() == others.len() && own.iter().all(|o| others.contains(o))
    }
}

impl Eq for Taint {}

impl Taint {
    pub(super) const NONE: Taint = Taint(None);

    pub(super) fn from(origin: Origin) -> Taint {
        Taint(Some(Rc::new(vec![origin])))
    }

    pub(super) fn collect(origins: Vec<Origin>) -> Taint {
        if origins.is_empty() {
            return Taint::NONE;
        }
        Taint(Some(Rc::new(origins)))
    }

    pub(super) fn origins(&self) -> &[Origin] {
        self.0.as_ref().map_or(&[], |all| all)
    }

    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn has(&self, kind: SourceKind) -> bool {
        self.origins().iter().any(|o| o.kind == kind)
    }

    pub(super) fn join(&self, other: &Taint) -> Taint {
        match (&self.0, &other.0) {
            (_, None) => return self.clone(),
            (None, _) => return other.clone(),
            (Some(a), Some(b)) if Rc::ptr_eq(a, b) => return self.clone(),
            _ => {}
        }
        let mut all = self.origins().to_vec();
        for origin in other.origins() {
            let room = all.len() < MOST_ORIGINS;
            match all
                .iter_mut()
                .find(|o| o.id == origin.id && o.kind == origin.kind)
            {
                Some(same) => same.cleared &= origin.cleared,
                None if room => all.push(origin.clone()),
                None => {}
            }
        }
        Taint(Some(Rc::new(all)))
    }

    pub(super) fn join_all<'t>(taints: impl Iterator<Item = &'t Taint>) -> Taint {
        taints.fold(Taint::NONE, |all, one| all.join(one))
    }

    /// Returns it with `bits` ruled out.
    pub(super) fn clear(&self, bits: u8) -> Taint {
        if self.is_none() || bits == 0 {
            return self.clone();
        }
        if bits & cleared::ALL == cleared::ALL {
            return Taint::NONE;
        }
        let clear = |o: &Origin| Origin {
            cleared: cleared::complete(o.cleared | bits),
            ..o.clone()
        };
        Taint(Some(Rc::new(self.origins().iter().map(clear).collect())))
    }

    /// Returns it with bits ruled out for some origins.
    pub(super) fn clear_of(&self, marks: &[(OriginId, u8)]) -> Taint {
        let marked = |o: &Origin| {
            marks
                .iter()
                .find(|(id, _)| *id == o.id)
                .map(|(_, bits)| *bits)
        };
        if !self.origins().iter().any(|o| marked(o).is_some()) {
            return self.clone();
        }
        let clear = |o: &Origin| Origin {
            cleared: cleared::complete(o.cleared | marked(o).unwrap_or(0)),
            ..o.clone()
        };
        Taint(Some(Rc::new(self.origins().iter().map(clear).collect())))
    }

    /// Returns it as the field `key` of what comes in: fields are checked one by one.
    pub(super) fn field(&self, key: &str) -> Taint {
        if !self.has(SourceKind::Request) {
            return self.clone();
        }
        let number = key.bytes().fold(0x811c_9dc5_u32, |n, b| {
            (n ^ u32::from(b)).wrapping_mul(0x0100_0193)
        });
        let one = |o: &Origin| match o.id {
            OriginId::Place { module, offset } if o.kind == SourceKind::Request => Origin {
                id: OriginId::Place {
                    module,
                    offset: (offset ^ number) | 0x8000_0000,
                },
                ..o.clone()
            },
            _ => o.clone(),
        };
        Taint(Some(Rc::new(self.origins().iter().map(one).collect())))
    }

    /// Returns it as functions see it that stand in `function`.
    pub(super) fn as_outer(&self, function: u32) -> Taint {
        self.map_ids(|id| match id {
            OriginId::Parameter(parameter) => OriginId::Outer {
                function,
                parameter,
            },
            other => other,
        })
    }

    /// Returns it as `function` itself sees it.
    pub(super) fn as_own(&self, of: u32) -> Taint {
        self.map_ids(|id| match id {
            OriginId::Outer {
                function,
                parameter,
            } if function == of => OriginId::Parameter(parameter),
            other => other,
        })
    }

    fn map_ids(&self, change: impl Fn(OriginId) -> OriginId) -> Taint {
        if !self.has(SourceKind::Parameter) {
            return self.clone();
        }
        let one = |o: &Origin| Origin {
            id: change(o.id),
            ..o.clone()
        };
        Taint(Some(Rc::new(self.origins().iter().map(one).collect())))
    }

    /// Returns it without what the caller of the function decides.
    pub(super) fn without_parameters(&self) -> Taint {
        self.without(SourceKind::Parameter)
    }

    pub(super) fn without(&self, kind: SourceKind) -> Taint {
        if !self.has(kind) {
            return self.clone();
        }
        let rest = |o: &&Origin| o.kind != kind;
        Taint::collect(self.origins().iter().filter(rest).cloned().collect())
    }

    /// Returns it as seen after one more step.
    pub(super) fn passed(&self, place: Place, message: &str) -> Taint {
        if self.is_none() {
            return Taint::NONE;
        }
        let step = |o: &Origin| Origin {
            steps: Step::after(o.steps.clone(), place, message),
            ..o.clone()
        };
        Taint(Some(Rc::new(self.origins().iter().map(step).collect())))
    }
}
