//! What is put into a queue of a module comes out where the module takes from it.

use ruff_python_ast::{Expr, ExprAttribute};

use super::calls::Arguments;
use super::dependencies::Fact;
use super::reader::Reader;
use super::rules::last_segment;
use super::scope::Frame;
use super::values::Value;

/// What makes a queue.
const QUEUES: &[&str] = &[
    "queue.Queue()",
    "queue.LifoQueue()",
    "queue.PriorityQueue()",
    "queue.SimpleQueue()",
    "asyncio.Queue()",
    "multiprocessing.Queue()",
    "multiprocessing.SimpleQueue()",
    "collections.deque()",
];

impl<'a> Reader<'a> {
    /// Keeps what `queue.put(value)` is given, and returns it for `queue.get()`.
    pub(super) fn pass_queue(
        &mut self,
        frame: &Frame<'a>,
        method: &'a ExprAttribute,
        receiver: Option<&Value>,
        arguments: &Arguments,
    ) -> Option<Value> {
        let is_queue = receiver?.name().is_some_and(|n| QUEUES.contains(&n));
        let name = match &*method.value {
            Expr::Name(name) => name.id.as_str(),
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            _ => return None,
        };
        if !is_queue {
            return None;
        }
        let key = (frame.module, name);
        match last_segment(method.attr.as_str()).trim_start_matches('.') {
            "put" | "put_nowait" | "append" | "appendleft" => {
                let given = arguments.positional.first()?;
                let given = given.map_taints(&|t| t.without_parameters());
                let known = self.queues.get(&key);
                let joined = known.map_or_else(|| given.clone(), |k| k.join(&given));
                if known != Some(&joined) {
                    self.queues.insert(key, joined);
                    self.noted.change(Fact::Globals(frame.module));
                }
                None
            }
            "get" | "get_nowait" | "pop" | "popleft" => {
                self.noted.look_at(Fact::Globals(frame.module));
                self.queues.get(&key).cloned()
            }
            _ => None,
        }
    }
}
