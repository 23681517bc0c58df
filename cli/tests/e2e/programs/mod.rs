//! Real programs as clients, sidecars and applications.

mod advice;
mod jvm;
mod proxies;
mod sidecars;
