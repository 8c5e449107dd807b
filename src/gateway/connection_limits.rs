//! Connections at once, and whose they are: nobody takes the owner's.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Kept for the owner; a browser opens six to a server and one for each of its web sockets.
pub const OWNER: usize = 512;
/// For everybody else who is let in, together.
pub const OTHERS: usize = 384;
/// For one user or one address of these.
pub const EACH: usize = 128;
/// For those who have yet to show a ticket or a token. One more ends the oldest of them: who holds
/// such a place and says nothing keeps nobody out.
pub const UNPROVEN: usize = 128;

/// Whose a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    Owner,
    Uid(u32),
    Address(IpAddr),
    /// Any user of this machine, where the system does not tell which.
    Anybody,
    /// Who has yet to prove to be the owner.
    Unproven,
}

#[derive(Default)]
pub struct Places(Mutex<Held>);

#[derive(Default)]
struct Held {
    by: BTreeMap<Whose, usize>,
    next: u64,
    /// The oldest first; without a handle until its task is there.
    unproven: VecDeque<(u64, Option<AbortHandle>)>,
}

impl Held {
    fn count(&self, whose: Whose) -> usize {
        self.by.get(&whose).copied().unwrap_or(0)
    }

    fn room(&self, whose: Whose) -> bool {
        match whose {
            Whose::Owner => self.count(whose) < OWNER,
            Whose::Unproven => true,
            _ => {
                let others: usize = self
                    .by
                    .iter()
                    .filter(|(w, _)| !matches!(w, Whose::Owner | Whose::Unproven))
                    .map(|(_, n)| n)
                    .sum();
                others < OTHERS && (whose == Whose::Anybody || self.count(whose) < EACH)
            }
        }
    }

    fn add(&mut self, whose: Whose) {
        *self.by.entry(whose).or_default() += 1;
    }

    fn take_off(&mut self, whose: Whose, id: u64) {
        if whose == Whose::Unproven {
            self.unproven.retain(|(i, _)| *i != id);
        }
        if let Some(n) = self.by.get_mut(&whose) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.by.remove(&whose);
            }
        }
    }
}

impl Places {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, or nothing where the share is used up.
    pub fn take(self: &Arc<Self>, whose: Whose) -> Option<Place> {
        let mut held = self.held();
        if !held.room(whose) {
            return None;
        }
        let id = held.next;
        held.next += 1;
        held.add(whose);
        if whose == Whose::Unproven {
            if held.unproven.len() >= UNPROVEN
                && let Some((_, Some(oldest))) = held.unproven.pop_front()
            {
                // Its place comes back when its task is gone.
                oldest.abort();
            }
            held.unproven.push_back((id, None));
        }
        drop(held);
        Some(Place {
            places: Arc::clone(self),
            whose: Mutex::new(whose),
            id,
        })
    }

    /// The task that serves the connection of a place.
    pub fn served(&self, id: u64, task: AbortHandle) {
        if let Some((_, slot)) = self.held().unproven.iter_mut().find(|(i, _)| *i == id) {
            *slot = Some(task);
        }
    }
}

/// A connection's; dropped with it.
pub struct Place {
    places: Arc<Places>,
    whose: Mutex<Whose>,
    pub id: u64,
}

impl Place {
    fn whose(&self) -> MutexGuard<'_, Whose> {
        self.whose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It showed a ticket or a token: from now on it is the owner's. `false`: the owner has no
    /// place left.
    pub fn prove(&self) -> bool {
        let mut whose = self.whose();
        if *whose != Whose::Unproven {
            return true;
        }
        let mut held = self.places.held();
        if !held.room(Whose::Owner) {
            return false;
        }
        held.take_off(Whose::Unproven, self.id);
        held.add(Whose::Owner);
        *whose = Whose::Owner;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let whose = *self.whose();
        self.places.held().take_off(whose, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_what_is_kept_for_somebody_else() {
        let places = Arc::new(Places::default());
        let many = |whose: Whose| {
            std::iter::from_fn(|| places.take(whose))
                .take(2000)
                .collect::<Vec<_>>()
        };
        let (one, two) = (many(Whose::Uid(1001)), many(Whose::Uid(1002)));
        let more: Vec<_> = (0..4)
            .flat_map(|n| many(Whose::Address(IpAddr::from([192, 168, 1, n]))))
            .collect();
        assert_eq!(
            (one.len(), two.len(), more.len()),
            (EACH, EACH, OTHERS - 2 * EACH)
        );
        let silent: Vec<_> = (0..2000).map(|_| places.take(Whose::Unproven)).collect();
        assert!(silent.iter().all(Option::is_some) && places.held().unproven.len() == UNPROVEN);
        let own = many(Whose::Owner);
        assert_eq!(own.len(), OWNER);
        drop(own);
        // Who has proven it is not ended by those who have not.
        let proven = places.take(Whose::Unproven).unwrap();
        assert!(proven.prove() && places.held().count(Whose::Owner) == 1);
        drop((one, two, more, silent, proven));
        assert!(places.held().by.is_empty() && places.held().unproven.is_empty());
    }
}
