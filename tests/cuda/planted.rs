//! Bugs planted in kernels, each of which a check must find.
