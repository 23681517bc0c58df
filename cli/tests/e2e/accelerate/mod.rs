//! Bytes past the stack arrive as TCP would have brought them: each case runs without and with acceleration, must
//! come to the same, and the counts must show that bytes took the fast path.

mod calls;
mod chosen;
mod closed;
mod programs;
mod readers;
mod shapes;
mod sockets;
mod splice;
mod streams;
mod switched;
mod tls;
mod twins;
mod unread;
