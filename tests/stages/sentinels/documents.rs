//! docs/sentinels.md lists the sentinels that the program has.
