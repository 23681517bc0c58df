//! Real proxies as sidecars and applications, each with a configuration of its own in a folder of its own.

mod haproxy;
mod nginx;

pub use haproxy::HaProxy;
pub use nginx::Nginx;
