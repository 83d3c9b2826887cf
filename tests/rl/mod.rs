//! RLHF arithmetic against numbers worked out elsewhere, finite differences and enumeration.

mod conventions;
mod losses;
mod shipped;
