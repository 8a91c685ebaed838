//! Python's pickle format, as far as files of weights use it: a machine with a stack and a memo that builds plain
//! values. Every instruction makes at most one value, so memory is bounded by the length of the pickle.

use std::collections::HashMap;
use std::ops::Range;

use super::globals::Global;
use super::values::{Id, Value, Values};
use super::{Result, build};

/// Reads the pickle at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Result<Values<'_>> {
    let values = Values { bytes, all: vec![Value::Inert], root: 0, len: 0 };
    Machine { values, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }.run()
}

struct Machine<'a> {
    values: Values<'a>,
    at: usize,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Values<'a>> {
        loop {
            let at = self.at;
            let code = self.take(1)?[0];
            if code == b'.' {
                self.values.root = self.pop()?;
                self.values.len = self.at;
                return Ok(self.values);
            }
            self.execute(code).map_err(|reason| match reason.is_empty() {
                true => format!("the pickle has the instruction {code:#04x} at byte {at}, which weights do not need"),
                false => reason,
            })?;
        }
    }

    /// Carries out one instruction. An empty reason stands for an instruction that is not accepted.
    fn execute(&mut self, code: u8) -> Result<()> {
        match code {
            0x80 => drop(self.take(1)?), // PROTO
            0x95 => drop(self.take(8)?), // FRAME
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.push(Value::Inert)?,
            0x88 | 0x89 => self.push(Value::Truth(code == 0x88))?,
            b'I' | b'L' => self.decimal()?,
            b'F' => {
                self.line()?;
                self.push(Value::Inert)?;
            }
            b'J' => self.little_endian(4, true)?,
            b'K' => self.little_endian(1, false)?,
            b'M' => self.little_endian(2, false)?,
            0x8a => {
                let len = self.length(1)?;
                self.long(len)?;
            }
            0x8b => {
                let len = self.length(4)?;
                self.long(len)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Inert)?;
            }
            b'S' => {
                let line = self.line()?;
                let quoted = line.len() >= 2;
                self.push(Value::Text(if quoted { line.start + 1..line.end - 1 } else { line }))?;
            }
            b'V' => {
                let line = self.line()?;
                self.push(Value::Text(line))?;
            }
            b'U' | b'C' | 0x8c => self.text(1)?,
            b'T' | b'X' | b'B' => self.text(4)?,
            0x8d | 0x8e | 0x96 => self.text(8)?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let mut items = vec![0; usize::from(code - 0x84)];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                self.push(Value::Tuple(items))?;
            }
            b']' | 0x8f => self.push(Value::List(Vec::new()))?, // a set is as good as a list
            b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b'}' => self.push(Value::Dictionary(Vec::new()))?,
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dictionary(Vec::new()))?;
                self.insert(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.insert(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)?;
            }
            b'p' => {
                let to = self.line_number()?;
                self.remember(to)?;
            }
            b'q' => {
                let to = self.length(1)?;
                self.remember(to)?;
            }
            b'r' => {
                let to = self.length(4)?;
                self.remember(to)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'g' => {
                let from = self.line_number()?;
                self.recall(from)?;
            }
            b'h' => {
                let from = self.length(1)?;
                self.recall(from)?;
            }
            b'j' => {
                let from = self.length(4)?;
                self.recall(from)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (self.values.get(module), self.values.get(name)) else {
                    return Err("the pickle names a class by something that is no text".into());
                };
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)?;
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                self.call(class, arguments)?;
            }
            0x92 => {
                self.pop()?;
                let arguments = self.pop()?;
                let class = self.pop()?;
                self.call(class, arguments)?;
            }
            b'b' => drop(self.pop()?), // the attributes of an object, which nothing reads
            b'Q' => {
                let id = self.pop()?;
                let storage = build::storage(&self.values, id, self.at)?;
                self.push(Value::Storage(storage))?;
            }
            _ => return Err(String::new()),
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.values.bytes.len());
        let end = end.ok_or_else(|| format!("the pickle is cut off at byte {}", self.values.bytes.len()))?;
        let taken = &self.values.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The rest of the line, without its end.
    fn line(&mut self) -> Result<Range<usize>> {
        let start = self.at;
        let rest = &self.values.bytes[start..];
        let len = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
        self.take(len + 1)?;
        Ok(start..start + len)
    }

    fn line_number(&mut self) -> Result<u64> {
        let line = self.line()?;
        let text = std::str::from_utf8(&self.values.bytes[line]).ok().and_then(|text| text.trim().parse().ok());
        text.ok_or_else(|| "the pickle has a place of its memo that is no number".into())
    }

    /// A number of `size` bytes without sign.
    fn length(&mut self, size: usize) -> Result<u64> {
        Ok(self.take(size)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn little_endian(&mut self, size: usize, signed: bool) -> Result<()> {
        let number = self.length(size)?;
        self.push(Value::Integer(if signed { i64::from(number as u32 as i32) } else { number as i64 }))
    }

    /// An integer of `len` bytes. One that does not fit 64 bits is of no interest.
    fn long(&mut self, len: u64) -> Result<()> {
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let start = if negative { -1 } else { 0 };
        let number = bytes.iter().rev().fold(start, |number: i64, byte| number << 8 | i64::from(*byte));
        self.push(if bytes.len() <= 8 { Value::Integer(number) } else { Value::Inert })
    }

    fn decimal(&mut self) -> Result<()> {
        let line = self.line()?;
        let text = std::str::from_utf8(&self.values.bytes[line]).unwrap_or_default();
        let number = text.trim_end_matches('L').parse();
        self.push(number.map_or(Value::Inert, Value::Integer))
    }

    /// Text or bytes behind their length of `size` bytes.
    fn text(&mut self, size: usize) -> Result<()> {
        let len = self.length(size)?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        self.push(Value::Text(self.at - len as usize..self.at))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        let id = Id::try_from(self.values.all.len()).map_err(|_| "the pickle has more values than fit 32 bits")?;
        self.values.all.push(value);
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        let above = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > above { self.stack.pop() } else { None };
        top.ok_or_else(|| format!("the pickle takes from an empty stack before byte {}", self.at))
    }

    fn top(&mut self) -> Result<Id> {
        let top = self.pop()?;
        self.stack.push(top);
        Ok(top)
    }

    /// The values above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        let mark = mark.ok_or_else(|| format!("the pickle has no mark before byte {}", self.at))?;
        Ok(self.stack.split_off(mark))
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<()> {
        let to = self.top()?;
        if let Some(Value::List(list)) = self.values.all.get_mut(to as usize) {
            list.extend(items);
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<()> {
        let to = self.top()?;
        if !items.len().is_multiple_of(2) {
            return Err(format!("the pickle has a key without a value before byte {}", self.at));
        }
        if let Some(Value::Dictionary(entries)) = self.values.all.get_mut(to as usize) {
            entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn remember(&mut self, place: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<()> {
        let id = self.memo.get(&place).ok_or_else(|| format!("the pickle has nothing in place {place} of its memo"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn global(&mut self, module: &Range<usize>, name: &Range<usize>) -> Result<()> {
        let text = |range| String::from_utf8_lossy(self.values.text(range)).into_owned();
        let (module, name) = (text(module), text(name));
        let global = Global::named(&module, &name).ok_or_else(|| {
            let module: String = module.chars().take(100).collect();
            let name: String = name.chars().take(100).collect();
            format!(
                "the pickle names `{module}.{name}`, which only Python could build or run: save the weights alone, \
                 torch.save(model.state_dict(), file)"
            )
        })?;
        self.push(Value::Global(global))
    }

    /// What a class or function of the list makes of its arguments.
    fn call(&mut self, class: Id, arguments: Id) -> Result<()> {
        let Value::Tuple(arguments) = self.values.get(arguments) else {
            return Err(format!("the pickle calls something without arguments before byte {}", self.at));
        };
        let arguments: Vec<Id> = arguments.iter().take(4).copied().collect();
        let first = |at: usize| arguments.get(at).copied().unwrap_or_default();
        match self.values.get(class) {
            Value::Global(Global::Dictionary) => self.push(Value::Dictionary(Vec::new())),
            Value::Global(Global::RebuildTensor) => {
                let tensor = build::tensor(&self.values, &arguments, self.at)?;
                self.push(Value::Tensor(Box::new(tensor)))
            }
            Value::Global(Global::RebuildParameter) => {
                self.stack.push(first(0));
                Ok(())
            }
            Value::Global(Global::RebuildFromType) => {
                let (function, arguments) = (first(0), first(2));
                match self.values.get(function) {
                    Value::Global(Global::RebuildTensor | Global::RebuildParameter) => self.call(function, arguments),
                    _ => Err("the pickle builds a tensor in a way that is not known".into()),
                }
            }
            Value::Global(Global::Inert) => self.push(Value::Inert),
            _ => Err(format!("the pickle calls something that is no class before byte {}", self.at)),
        }
    }
}
