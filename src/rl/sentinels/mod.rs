//! Sentinels: conditions on the figures of the steps of a training run, each of which says that
//! something is wrong with the run. Pure functions of the series of figures, so what fires while a
//! stage trains also fires when its recorded figures are read again.

pub mod responses;
pub mod settings;
pub mod table;
pub mod watch;
