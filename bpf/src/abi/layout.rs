//! How definitions are written, so that both languages have them from one place.

/// One constant, as the header prints it.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// Name in Rust, and in C with `MESH_` before it.
    pub name: &'static str,
    /// What it is.
    pub value: u64,
    /// Lines of its documentation.
    pub doc: &'static [&'static str],
}

/// One field, as the header prints it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its type, as Rust has it.
    pub ty: &'static str,
    /// Name in both languages.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: usize,
    /// Lines of its documentation.
    pub doc: &'static [&'static str],
}

/// One structure, as the header prints it.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Name in Rust.
    pub name: &'static str,
    /// Name in C.
    pub c_name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// In order.
    pub fields: &'static [Field],
    /// Lines of its documentation.
    pub doc: &'static [&'static str],
}

/// Constants of both languages.
macro_rules! constants {
    ($( $(#[doc = $doc:literal])* $name:ident: $ty:ty = $value:expr; )*) => {
        $( $(#[doc = $doc])* pub const $name: $ty = $value; )*

        /// The constants of this module.
        pub(super) const CONSTANTS: &[super::layout::Constant] = &[$(
            super::layout::Constant { name: stringify!($name), value: $name as u64, doc: &[$($doc),*] }
        ),*];
    };
}

/// Structures of both languages.
macro_rules! layouts {
    ($(
        $(#[doc = $doc:literal])*
        struct $name:ident as $c_name:literal {
            $( $(#[doc = $field_doc:literal])* $field:ident: $ty:ty, )*
        }
    )*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
            #[repr(C)]
            pub struct $name { $( $(#[doc = $field_doc])* pub $field: $ty, )* }

            impl Default for $name {
                fn default() -> Self {
                    bytemuck::Zeroable::zeroed()
                }
            }
        )*

        /// The structures of this module.
        pub(super) const LAYOUTS: &[super::layout::Layout] = &[$(
            super::layout::Layout {
                name: stringify!($name),
                c_name: $c_name,
                size: size_of::<$name>(),
                fields: &[$( super::layout::Field {
                    ty: stringify!($ty),
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    doc: &[$($field_doc),*],
                } ),*],
                doc: &[$($doc),*],
            }
        ),*];
    };
}

/// An enumeration whose variants are indices into a map, each with the name that people see.
macro_rules! indices {
    ($(#[doc = $about:literal])* enum $enum:ident { $($(#[doc = $doc:literal])* $name:ident = $word:literal,)* }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $enum { $($(#[doc = $doc])* $name,)* }

        impl $enum {
            /// All of them, in index order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in `status`, and in C in capitals, with the prefix of its kind before it.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it stands for.
            #[must_use]
            pub const fn doc(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($doc),*],)* }
            }
        }
    };
}
