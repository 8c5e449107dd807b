//! Limits of simultaneous connections for each kind of client, so that nobody takes the owner's.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Slots kept for the owner; a browser opens six connections to a server and one for each web
/// socket.
pub(crate) const OWNER: usize = 512;
/// Slots for all other admitted clients together.
pub(crate) const OTHERS: usize = 384;
/// Slots for one user or one address among these.
pub(crate) const EACH: usize = 128;
/// Slots for clients that have not shown a ticket or a token yet. One more closes the oldest of
/// them, so that a silent client keeps nobody out.
pub(crate) const UNPROVEN: usize = 128;

/// Whose a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SlotOwner {
    Owner,
    Uid(u32),
    Address(IpAddr),
    /// Any user of this machine, if the system does not report which.
    Anybody,
    /// A client that has not proved to be the owner yet.
    Unproven,
}

#[derive(Default)]
pub(crate) struct ConnectionSlots(Mutex<SlotCounts>);

#[derive(Default)]
struct SlotCounts {
    by: BTreeMap<SlotOwner, usize>,
    next: u64,
    /// The unproven connections, oldest first; without a handle until the task exists.
    unproven: VecDeque<(u64, Option<AbortHandle>)>,
}

impl SlotCounts {
    fn count_of(&self, whose: SlotOwner) -> usize {
        self.by.get(&whose).copied().unwrap_or(0)
    }

    fn has_room(&self, whose: SlotOwner) -> bool {
        match whose {
            SlotOwner::Owner => self.count_of(whose) < OWNER,
            SlotOwner::Unproven => true,
            _ => {
                let others: usize = self
                    .by
                    .iter()
                    .filter(|(w, _)| !matches!(w, SlotOwner::Owner | SlotOwner::Unproven))
                    .map(|(_, n)| n)
                    .sum();
                others < OTHERS && (whose == SlotOwner::Anybody || self.count_of(whose) < EACH)
            }
        }
    }

    fn count_one(&mut self, whose: SlotOwner) {
        *self.by.entry(whose).or_default() += 1;
    }

    fn take_off(&mut self, whose: SlotOwner, id: u64) {
        if whose == SlotOwner::Unproven {
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

impl ConnectionSlots {
    fn lock_counts(&self) -> MutexGuard<'_, SlotCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a slot, or `None` if no slot of that kind is free.
    pub(crate) fn acquire_slot(self: &Arc<Self>, whose: SlotOwner) -> Option<ConnectionSlot> {
        let mut held = self.lock_counts();
        if !held.has_room(whose) {
            return None;
        }
        let id = held.next;
        held.next += 1;
        held.count_one(whose);
        if whose == SlotOwner::Unproven {
            if held.unproven.len() >= UNPROVEN
                && let Some((_, Some(oldest))) = held.unproven.pop_front()
            {
                // Its slot is free again once its task has ended.
                oldest.abort();
            }
            held.unproven.push_back((id, None));
        }
        drop(held);
        Some(ConnectionSlot {
            places: Arc::clone(self),
            whose: Mutex::new(whose),
            id,
        })
    }

    /// Sets the task that serves the connection of a slot.
    pub(crate) fn set_task(&self, id: u64, task: AbortHandle) {
        if let Some((_, slot)) = self
            .lock_counts()
            .unproven
            .iter_mut()
            .find(|(i, _)| *i == id)
        {
            *slot = Some(task);
        }
    }
}

/// A connection's slot, dropped with the connection.
pub(crate) struct ConnectionSlot {
    places: Arc<ConnectionSlots>,
    whose: Mutex<SlotOwner>,
    pub id: u64,
}

impl ConnectionSlot {
    fn lock_owner(&self) -> MutexGuard<'_, SlotOwner> {
        self.whose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the connection the owner's after it has shown a ticket or a token. Returns `false` if
    /// the owner has no free slot.
    pub(crate) fn prove_owner(&self) -> bool {
        let mut whose = self.lock_owner();
        if *whose != SlotOwner::Unproven {
            return true;
        }
        let mut held = self.places.lock_counts();
        if !held.has_room(SlotOwner::Owner) {
            return false;
        }
        held.take_off(SlotOwner::Unproven, self.id);
        held.count_one(SlotOwner::Owner);
        *whose = SlotOwner::Owner;
        true
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let whose = *self.lock_owner();
        self.places.lock_counts().take_off(whose, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_what_is_kept_for_somebody_else() {
        let places = Arc::new(ConnectionSlots::default());
        let many = |whose: SlotOwner| {
            std::iter::from_fn(|| places.acquire_slot(whose))
                .take(2000)
                .collect::<Vec<_>>()
        };
        let (one, two) = (many(SlotOwner::Uid(1001)), many(SlotOwner::Uid(1002)));
        let more: Vec<_> = (0..4)
            .flat_map(|n| many(SlotOwner::Address(IpAddr::from([192, 168, 1, n]))))
            .collect();
        assert_eq!(
            (one.len(), two.len(), more.len()),
            (EACH, EACH, OTHERS - 2 * EACH)
        );
        let silent: Vec<_> = (0..2000)
            .map(|_| places.acquire_slot(SlotOwner::Unproven))
            .collect();
        assert!(
            silent.iter().all(Option::is_some) && places.lock_counts().unproven.len() == UNPROVEN
        );
        let own = many(SlotOwner::Owner);
        assert_eq!(own.len(), OWNER);
        drop(own);
        // Who has proven it is not ended by those who have not.
        let proven = places.acquire_slot(SlotOwner::Unproven).unwrap();
        assert!(proven.prove_owner() && places.lock_counts().count_of(SlotOwner::Owner) == 1);
        drop((one, two, more, silent, proven));
        assert!(places.lock_counts().by.is_empty() && places.lock_counts().unproven.is_empty());
    }
}
