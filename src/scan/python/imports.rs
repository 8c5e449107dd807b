//! What an import binds.

use ruff_text_size::Ranged as _;

use super::dependencies::Fact;
use super::module::Imported;
use super::names;
use super::reader::Reader;
use super::scope::Frame;
use super::source::offset_of;
use super::values::{Value, What};

impl<'a> Reader<'a> {
    pub(super) fn import(
        &mut self,
        frame: &mut Frame<'a>,
        module: &'a str,
        as_name: Option<&'a str>,
    ) {
        let imported = self.program.resolve(frame.module, 0, module);
        let first = module.split('.').next().unwrap_or(module);
        let value = match imported {
            Imported::Module(id) => {
                self.read_module_once(id);
                Value::of(What::Module(id))
            }
            Imported::Library(name) => {
                let shown = if as_name.is_some() {
                    name.as_str()
                } else {
                    first
                };
                Value::named(&names::canonical(shown))
            }
        };
        self.bind_name(frame, as_name.unwrap_or(first), value);
    }

    pub(super) fn import_from(
        &mut self,
        frame: &mut Frame<'a>,
        from: &Imported,
        aliases: &'a [ruff_python_ast::Alias],
    ) {
        if let Imported::Module(id) = from {
            self.read_module_once(*id);
            self.noted.look_at(Fact::Globals(*id));
        }
        for alias in aliases {
            let name = alias.name.as_str();
            if name == "*" {
                match from {
                    Imported::Module(id) => {
                        let all = self.globals[*id].clone();
                        for (name, value) in all.into_iter().filter(|(n, _)| !n.starts_with('_')) {
                            frame.bind(name, value);
                        }
                    }
                    Imported::Library(library) => {
                        if !self.stars[frame.module].contains(library) {
                            self.stars[frame.module].push(library.clone());
                            self.noted.change(Fact::Globals(frame.module));
                        }
                    }
                }
                continue;
            }
            let value = match from {
                Imported::Module(id) => match self.globals[*id].get(name) {
                    Some(value) => value.clone(),
                    None => match self.program.submodule(*id, name) {
                        Some(inner) => {
                            self.read_module_once(inner);
                            Value::of(What::Module(inner))
                        }
                        None => Value::named(&format!("?{name}")),
                    },
                },
                Imported::Library(library) => {
                    let full = names::canonical(&format!("{library}.{name}"));
                    let offset = offset_of(alias.range().start());
                    Self::named_source(frame, offset, Value::named(&full))
                }
            };
            let bound = alias.asname.as_ref().map_or(name, |n| n.as_str());
            self.bind_name(frame, bound, value);
        }
    }
}
