//! The arguments that an allowed function is given by its own library.

use super::super::rules::RUNS_CODE;
use super::super::window::Fault;
use super::globals::{Allowed, Check, Standing};
use super::machine::Machine;
use super::value::{Kind, Value};

impl Machine<'_> {
    /// Says whether arguments have the form that an allowed global is given by its own library.
    pub(super) fn passes(
        &mut self,
        allowed: Allowed,
        items: &[Value],
        depth: u32,
    ) -> Result<bool, Fault> {
        let check = match allowed {
            Allowed::Named | Allowed::Storage(_) => return Ok(false),
            Allowed::Class(_) => return Ok(true),
            Allowed::Call(check) => check,
        };
        let known = |v: &Value| {
            self.heap
                .global(*v)
                .is_some_and(|g| matches!(g.standing, Standing::Allowed(_)))
        };
        let kind = |v: &Value| self.heap.object(*v).map(|o| o.kind);
        Ok(match (check, items) {
            (Check::Encode, [Value::Text(_), codec]) => matches!(
                self.heap.text(*codec),
                Some("latin1" | "latin-1" | "utf-8" | "utf8" | "ascii")
            ),
            (Check::Elements | Check::Buffer, []) => true,
            (Check::Elements, [one]) => {
                matches!(kind(one), Some(Kind::List | Kind::Tuple | Kind::Set))
            }
            (Check::Buffer, [Value::Bytes(_)]) => true,
            (Check::Buffer, [one]) => matches!(
                kind(one),
                Some(Kind::List | Kind::Tuple | Kind::Instance(_))
            ),
            (Check::Buffer, [Value::Text(_), codec]) => {
                matches!(self.heap.text(*codec), Some("latin1" | "latin-1"))
            }
            (Check::Factory, []) => true,
            (Check::Factory, [factory, ..]) => *factory == Value::None || known(factory),
            (Check::Reconstructor, [class, base, _]) => {
                let (class, base) = (*class, *base);
                let good = matches!(base, Value::Global(_)) && known(&base);
                let none = self.heap.add_object(Kind::Tuple, &[])?;
                self.made_by(class, none, depth)? && good
            }
            (Check::NewObject, [class, rest @ ..]) => {
                let arguments = self.heap.add_object(Kind::Tuple, rest)?;
                self.made_by(*class, arguments, depth)?
            }
            (Check::TypeOf, [one]) => *one == Value::None,
            (Check::RebuildFrom, [function, class, arguments, _]) => {
                let good = known(class);
                let (function, arguments) = (*function, *arguments);
                self.made_by(function, arguments, depth)? && good
            }
            (Check::NestedModel, [bytes]) => match self.heap.span(*bytes) {
                Some(span) => {
                    self.nested.push(span);
                    true
                }
                None => false,
            },
            // Python pickles a bound method as `getattr(object, name)`; the name is public.
            (Check::Attribute, [object, name]) => {
                let name = self.heap.text(*name).unwrap_or("_");
                let plain = !name.starts_with('_')
                    && !name.contains('.')
                    && !super::hostile::is_hostile("", name);
                if !plain || !matches!(kind(object), Some(Kind::Instance(_))) {
                    let argument = self.shown_argument(items);
                    let message = format!("loading it calls builtins.getattr({argument})");
                    self.note(RUNS_CODE, message, None);
                }
                false
            }
            _ => false,
        })
    }

    /// Calls a class or function that an allowed function is given.
    fn made_by(&mut self, callee: Value, arguments: Value, depth: u32) -> Result<bool, Fault> {
        let before = self.notes.len();
        self.call(callee, arguments, depth + 1)?;
        Ok(self.notes.len() == before)
    }
}
