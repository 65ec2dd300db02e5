//! The metadata of a GGUF file.

use super::Header;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of 8 to 64 bits in a file; written with 32 where they suffice.
    Unsigned(u64),
    /// As [`Value::Unsigned`], with a sign.
    Signed(i64),
    /// 32-bit float.
    F32(f32),
    /// 64-bit float.
    F64(f64),
    /// Yes or no.
    Bool(bool),
    /// UTF-8.
    Text(String),
    /// Values of one kind.
    Array(Array),
}

/// Values of one kind, as they are in the file: an array of a million flags
/// takes a million bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub(super) kind: u32,
    pub(super) len: usize,
    pub(super) raw: Vec<u8>,
}

// The kinds of the specification, `gguf_metadata_value_type`.
pub(super) const U8: u32 = 0;
pub(super) const I8: u32 = 1;
pub(super) const U16: u32 = 2;
pub(super) const I16: u32 = 3;
pub(super) const U32: u32 = 4;
pub(super) const I32: u32 = 5;
pub(super) const F32: u32 = 6;
pub(super) const BOOL: u32 = 7;
pub(super) const TEXT: u32 = 8;
pub(super) const ARRAY: u32 = 9;
pub(super) const U64: u32 = 10;
pub(super) const I64: u32 = 11;
pub(super) const F64: u32 = 12;

/// Bytes of a value of a kind, where all have the same number.
pub(super) fn width(kind: u32) -> Option<usize> {
    match kind {
        U8 | I8 | BOOL => Some(1),
        U16 | I16 => Some(2),
        U32 | I32 | F32 => Some(4),
        U64 | I64 | F64 => Some(8),
        _ => None,
    }
}

impl Value {
    pub(super) fn kind(&self) -> u32 {
        match self {
            Self::Unsigned(x) if u32::try_from(*x).is_ok() => U32,
            Self::Unsigned(_) => U64,
            Self::Signed(x) if i32::try_from(*x).is_ok() => I32,
            Self::Signed(_) => I64,
            Self::F32(_) => F32,
            Self::F64(_) => F64,
            Self::Bool(_) => BOOL,
            Self::Text(_) => TEXT,
            Self::Array(_) => ARRAY,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Unsigned(x) => match u32::try_from(*x) {
                Ok(x) => out.extend(x.to_le_bytes()),
                Err(_) => out.extend(x.to_le_bytes()),
            },
            Self::Signed(x) => match i32::try_from(*x) {
                Ok(x) => out.extend(x.to_le_bytes()),
                Err(_) => out.extend(x.to_le_bytes()),
            },
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::F64(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::Text(text) => write_text(text, out),
            Self::Array(array) => {
                out.extend(array.kind.to_le_bytes());
                out.extend((array.len as u64).to_le_bytes());
                out.extend(&array.raw);
            }
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Array {
    /// Packs values; `None` where they are not all of one kind, or arrays.
    pub fn of(values: &[Value]) -> Option<Self> {
        let kind = values.first().map_or(U32, Value::kind);
        if kind == ARRAY || values.iter().any(|value| value.kind() != kind) {
            return None;
        }
        let mut raw = Vec::new();
        values.iter().for_each(|value| value.write(&mut raw));
        Some(Self {
            kind,
            len: values.len(),
            raw,
        })
    }

    /// Unpacks them.
    pub fn values(&self) -> Vec<Value> {
        let mut header = Header::new(&self.raw);
        (0..self.len)
            .map_while(|_| header.value(self.kind).ok())
            .collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
