//! What people accept of the code that is pinned: the scan of pins that move, the diff that a review
//! shows, and the record of it in comfy.lock.

pub(crate) mod changes;
pub(crate) mod external;
pub(crate) mod listing;
pub(crate) mod pins;
pub(crate) mod record;
