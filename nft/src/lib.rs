//! A policy as an nftables ruleset, for nodes that cannot have the BPF programs: the same tables, the same decisions.
//!
//! Nothing here knows the policy language, and nothing here touches a kernel: [`lower`] makes a [`Ruleset`] of the
//! [`Tables`](mesh_bpf::tables::Tables) that the programs would read, [`prove`] holds it against their walk
//! ([`Sim`](mesh_bpf::sim::Sim)), [`Ruleset::replace`] writes the netlink messages that load it, and [`decode`] reads
//! what a kernel answers. Sending and receiving is the caller's.
//!
//! # The ruleset
//! One table a network namespace, with two base chains of type `nat`, before those of others. What they decide, they decide
//! once for each flow that conntrack takes for new:
//! ```text
//! output      → guards → who? (uid, gid, cgroup, interface) → class → own address? → address → port → decision
//! prerouting  → guards → for this namespace? → own address? → interface → address → port → decision
//! ```
//! Addresses and ports are looked up in interval maps, whose values are verdicts: `goto` a chain. All of a tree's
//! stretches with equal ports share one such chain, all nodes with equal ports a map of ports, and all stretches that one item
//! decides a chain that counts and ends. Maps have names, since the kernel finds a free name for one without in a
//! time that grows with the square of their number.
//!
//! # Names
//! | name | what it is |
//! |---|---|
//! | `g7_…` | a chain without rules, the [`Marker`]: which generation of what is loaded |
//! | `output`, `prerouting` | the base chains; they are never deleted, since established connections would be reset |
//! | `c12_0`, `m3_0` | a chain, a map. The last number tells what is being loaded from what it takes the place of |
//! | `h0123456789abcdef` | the counter of an item; `s…` that of all items of a source. They stay when a ruleset is replaced |

mod text;

mod judge;
mod lower;
mod prove;

pub mod batch;
pub mod decode;
mod encode;
pub mod request;

mod difference;
mod ruleset;
mod unsupported;

mod held;
mod marker;
mod scene;

pub use batch::{Batch, Step};
pub use encode::PRIORITY;

pub use difference::{Difference, differences};
pub use held::{Held, TableName};
pub use judge::Judged;
pub use lower::{NotLowered, lower};
pub use marker::Marker;
pub use prove::{Counterexample, prove};
pub use ruleset::{Counter, CounterKind, Ruleset};
pub use scene::{Cgroup, IdMap, Resident, Scene};
pub use unsupported::{Unsupported, unsupported};
