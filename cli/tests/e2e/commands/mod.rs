//! What each command does and says.

mod bad_input;
mod completion;
mod counts;
mod detach;
mod doctor;
mod explain;
mod history;
mod leaving;
mod observe;
mod pause;
mod placement;
mod reapply;
mod recent;
mod reset_changed;
mod status;
mod tutorial;
mod unheard_sidecars;
mod widths;
