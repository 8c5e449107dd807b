//! Bad input, each with its message.
