//! Type information for maps whose kind asks for it.
//!
//! Socket storage is only created with types: a key that is a 32-bit `int`, and a value of the map's size
//! (`bpf_local_storage_map_check_btf` in the kernel). Nothing reads them but the kernel and `bpftool`, so
//! the value is a struct with an array of bytes, and the few types are written by hand.

/// Id of the key's type.
pub(super) const KEY: u32 = 1;
/// Id of the value's type.
pub(super) const VALUE: u32 = 4;

const MAGIC: u16 = 0xeb9f;
const HEADER: u32 = 24;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
/// `\0int\0unsigned char\0flow\0bytes\0`: the names, by offset.
const STRINGS: &[u8] = b"\0int\0unsigned char\0flow\0bytes\0";
const INT: u32 = 1;
const BYTE: u32 = 5;
const FLOW: u32 = 19;
const BYTES: u32 = 24;
const SIGNED: u32 = 1 << 24;

/// `int`, `unsigned char`, `unsigned char[size]`, `struct flow { unsigned char bytes[size]; }`, in the
/// format of `linux/btf.h`, host byte order.
pub(super) fn storage(size: u32) -> Vec<u8> {
    let types: &[u32] = &[
        // 1: int, 32 bits
        INT,
        KIND_INT << 24,
        4,
        SIGNED | 32, //
        // 2: unsigned char, 8 bits
        BYTE,
        KIND_INT << 24,
        1,
        8, //
        // 3: array of `size` of type 2, indexed by type 1
        0,
        KIND_ARRAY << 24,
        0,
        2,
        1,
        size, //
        // 4: struct with one member of type 3 at bit 0
        FLOW,
        KIND_STRUCT << 24 | 1,
        size,
        BYTES,
        3,
        0,
    ];
    #[expect(clippy::cast_possible_truncation, reason = "both are constants below 1 KiB")]
    let (types_len, strings_len) = ((types.len() * 4) as u32, STRINGS.len() as u32);
    let mut btf = MAGIC.to_ne_bytes().to_vec();
    btf.extend([1, 0]); // version, flags
    for word in [HEADER, 0, types_len, types_len, strings_len].iter().chain(types) {
        btf.extend(word.to_ne_bytes());
    }
    btf.extend(STRINGS);
    btf
}
