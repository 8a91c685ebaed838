//! Thrift's compact protocol, in which Parquet writes its headers: numbered fields, read into a tree.
//!
//! A tree is no larger than the bytes it is read from allow, whatever counts they claim.

/// Structs and lists inside each other at most. Parquet needs six.
const DEEPEST: usize = 16;

/// A value of a header.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i64),
    Double,
    Bytes(&'a [u8]),
    List(Vec<Self>),
    Struct(Vec<(i16, Self)>),
}

impl<'a> Value<'a> {
    /// The field of a struct with this number.
    pub fn field(&self, number: i16) -> Option<&Self> {
        let Self::Struct(fields) = self else { return None };
        fields.iter().find(|(other, _)| *other == number).map(|(_, value)| value)
    }

    pub fn int(&self, number: i16) -> Option<i64> {
        if let Self::Int(value) = self.field(number)? { Some(*value) } else { None }
    }

    pub fn bool(&self, number: i16) -> Option<bool> {
        if let Self::Bool(value) = self.field(number)? { Some(*value) } else { None }
    }

    pub fn text(&self, number: i16) -> Option<String> {
        if let Self::Bytes(bytes) = self.field(number)? {
            Some(String::from_utf8_lossy(bytes).into_owned())
        } else {
            None
        }
    }

    /// The items of a list; none if there is no such field.
    pub fn list(&self, number: i16) -> &[Self] {
        if let Some(Self::List(items)) = self.field(number) { items } else { &[] }
    }
}

/// Reads a struct at the start of `bytes`. Returns it and how many bytes it took; none if it ends early or is no
/// Thrift.
pub(super) fn read(bytes: &[u8]) -> Option<(Value<'_>, usize)> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.structure(0)?;
    Some((value, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn structure(&mut self, depth: usize) -> Option<Value<'a>> {
        let (mut fields, mut number) = (Vec::new(), 0i16);
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(Value::Struct(fields));
            }
            number = match head >> 4 {
                0 => i16::try_from(self.zigzag()?).ok()?,
                step => number.checked_add(i16::from(step))?,
            };
            let value = match head & 15 {
                1 => Value::Bool(true),
                2 => Value::Bool(false),
                kind => self.value(kind, depth + 1)?,
            };
            fields.push((number, value));
        }
    }

    fn value(&mut self, kind: u8, depth: usize) -> Option<Value<'a>> {
        if depth > DEEPEST {
            return None;
        }
        Some(match kind {
            1 | 2 => Value::Bool(self.byte()? == 1), // in a list
            3 => Value::Int(i64::from(self.byte()? as i8)),
            4..=6 => Value::Int(self.zigzag()?),
            7 => {
                self.take(8)?;
                Value::Double
            }
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                // an item takes at least a byte
                if count > (self.bytes.len() - self.at) as u64 {
                    return None;
                }
                Value::List((0..count).map(|_| self.item(head & 15, depth + 1)).collect::<Option<_>>()?)
            }
            12 => self.structure(depth)?,
            _ => return None,
        })
    }

    fn item(&mut self, kind: u8, depth: usize) -> Option<Value<'a>> {
        self.value(kind, depth)
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_read_by_number() {
        // 1: i32 = 7, 2: "ab", 20: list of i64 [-1, 300], 21: true, 22: struct { 1: byte = 5 }
        let bytes = [0x15, 14, 0x18, 2, b'a', b'b', 0x09, 40, 0x26, 1, 0xd8, 4, 0x11, 0x1c, 0x13, 5, 0, 0, 99];
        let (value, used) = read(&bytes).unwrap();
        assert_eq!((used, value.int(1), value.text(2).as_deref()), (18, Some(7), Some("ab")));
        assert_eq!(value.list(20), [Value::Int(-1), Value::Int(300)]);
        assert_eq!((value.bool(21), value.field(22).and_then(|v| v.int(1)), value.int(9)), (Some(true), Some(5), None));
        (0..18).for_each(|cut| assert_eq!(read(&bytes[..cut]), None));
        assert_eq!(read(&[0x1c; 100]), None, "too deep");
        assert_eq!(read(&[0x19, 0xf8, 0xff, 0xff, 0xff, 0x7f]), None, "a list longer than the file");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_tree_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some((_, used)) = read(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
