//! Real programs as clients, sidecars and applications.

mod advice;
mod clients;
mod jvm;
mod promised;
mod proxies;
mod sidecars;
