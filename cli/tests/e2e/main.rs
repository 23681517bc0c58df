//! meshc on the real kernel: policies applied by the command itself, and real connections.
//!
//! These tests know the command line and what a network sees, and nothing else of meshc, but for `model`, which
//! compares what the kernel does with what the compiled tables say. They are ignored where no kernel was
//! promised (`MESHC_TEST_KERNEL=1`) when they were compiled, and counted so.
//!
//! One directory a subject, one behaviour a file. What several files need is in `fixtures`; tests import from nowhere
//! else.
#![cfg(target_os = "linux")]
#![expect(
    clippy::duplicate_mod,
    reason = "tests of inbound connections run once for each way to decide them"
)]

mod fixtures;

mod accelerate;
mod commands;
mod inbound;
mod node;
mod outbound;
mod pods;
mod programs;
